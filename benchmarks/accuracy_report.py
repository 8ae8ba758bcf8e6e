"""Page of the accuracy table: what is compared, published rows, and what was asked of `optimal`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.table_cells import Cell
from benchmarks.table_report import compared, shown_difference, write_report

__all__ = ["asked", "write_accuracy_report"]

_HEAD = """\
# Accuracy after pruning: ResNet-20 on CIFAR-10

    python -m benchmarks.accuracy_table [--more] [--nb_epochs 6] [--jobs 2]

All cells start from the dense network that `./run_local.sh --learner weight-sparse` starts from
([weights](../../checkpoints/README.md)) and get the same training, the product's recipe at the
length in the title; a run of the product trains for 6 epochs. `optimal` searches with every seed.
The other core protocols take no rollout and keep their profile, so their seeds are of the training
alone. "Ahead by" is the mean over seeds of the paired difference, with half its 95 % interval
(Student's t); a negative number means that `optimal` is behind. Zeros are counted over all prunable
weights.
"""

_PUBLISHED = """\
## Published: PocketFlow, MobileNet-v1 on ImageNet

| zeros | dense | Zhu & Gupta (2017) | PocketFlow, `optimal` | ahead by |
|---:|---:|---:|---:|---:|
| 50 % | 70.89 | 69.5 | 70.5 | +1.0 |
| 75 % | 70.89 | 67.7 | 68.5 | +0.8 |
| 90 % | 70.89 | 61.8 | 63.4 | +1.6 |
| 95 % | 70.89 | 53.6 | 56.8 | +3.2 |

From its documentation (docs/performance.md): top-1 accuracy in %, without seeds or intervals. The
third column is quoted there from the paper; PocketFlow's own also uses distillation. These rows are
not repeated here: ImageNet is not available to this project, and 100 epochs of its 1.28 million
images are out of reach of two cores. PocketFlow publishes no weight sparsification on CIFAR-10."""

_WANTED = {0.9: 0.016, 0.95: 0.032}
"""Target -> how far `optimal` should be ahead of `uniform`: the differences published above."""


def write_accuracy_report(folder: Path, *, cells: Sequence[Cell]) -> str:
    """Write README.md beside rows.csv, and return its text."""
    path = folder / "rows.csv"
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame()
    foot = [asked(rows[rows["nb_epochs"] == cells[0].nb_epochs])] if len(rows) else []
    return write_report(folder, head=_HEAD, cells=cells, foot=[*foot, _PUBLISHED])


def asked(rows: pd.DataFrame) -> str:
    """What was asked of `optimal`, and what came out, for one network and length."""
    table = compared(rows)
    lines = [
        "## What was asked, and what came out\n",
        f"{rows['nb_epochs'].iloc[0]:g} epochs of training, differences in points:\n",
        "| asked of `optimal` | result |",
        "|---|---|",
    ]
    for target, part in table.groupby("target"):
        others = part[part["ahead"].notna()]
        if not len(others):
            continue
        ahead = dict(zip(others["name"], others["ahead"], strict=True))
        half = dict(zip(others["name"], others["half"], strict=True))
        shown = f"{100 * float(str(target)):g} %"
        best = min(ahead, key=lambda name: ahead[name])
        lines.append(
            f"| {shown}: mean not below any other | {_verdict(ahead[best], half[best], 0.0)}; "
            f"over `{best}` {shown_difference(ahead[best], half[best])} |"
        )
        wanted = _WANTED.get(float(str(target)))
        if wanted is not None and "uniform" in ahead:
            lines.append(
                f"| {shown}: ahead of `uniform` by {100 * wanted:.1f} | "
                f"{_verdict(ahead['uniform'], half['uniform'], wanted)}; "
                f"{shown_difference(ahead['uniform'], half['uniform'])} |"
            )
    return "\n".join(lines)


def _verdict(ahead: float, half: float, least: float) -> str:
    """Whether a difference is at least `least`, and whether its interval says so, too."""
    if math.isnan(half):
        return f"{'met' if ahead >= least else '**missed**'} (one seed)"
    if ahead >= least:
        return "met" if ahead - half >= least else "met by the mean, not by the interval"
    return "**missed**" if ahead + half < least else "**missed** by the mean, within its interval"
