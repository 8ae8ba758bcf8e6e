"""Page of the ceiling: measured agreement of two trainings, and what their noise lets expect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.ceiling_statistics import (
    Values,
    agreement,
    expected,
    noise_of_repeats,
    resampled,
)
from ws_learner.core import write_text

__all__ = ["pairs_of", "write_ceiling_report"]

_FEWEST = 6

_HEAD = """\
# Ceiling: how well one training ranks profiles as another does

    python -m benchmarks.ceiling

A reward is judged by how it ranks profiles beside their accuracy after training. That accuracy has
noise of its own: with another seed the same profile trains to another one. No reward can be shown
to rank better than the noise lets it. Correlations are Spearman's; the better half is by the
accuracy that judges, both ways round for two trainings.
"""


def write_ceiling_report(folder: Path, *, source: pd.DataFrame, accuracy: Sequence[Path]) -> str:
    """Write README.md, and return its text.

    Args:
        folder: Folder of trained.csv and of the page.
        source: Table of profiles, each trained once.
        accuracy: Tables of cells, which may be missing.
    """
    path = folder / "trained.csv"
    rows = pd.read_csv(path) if path.exists() else source.head(0)
    tables = [pd.read_csv(table) for table in accuracy if table.exists()]
    parts = [_HEAD.rstrip(), *_measured(rows), *_noise(rows, tables, source)]
    text = "\n\n".join(parts) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "README.md", text)
    return text


def pairs_of(rows: pd.DataFrame) -> tuple[Values, Values]:
    """(N,) accuracies of the two seeds with most rows, for the profiles that both have."""
    wide = rows.pivot_table(index="zeros", columns="seed", values="accuracy")
    if wide.shape[1] < 2:
        return np.empty(0), np.empty(0)
    first, second = wide.count().sort_values(ascending=False, kind="stable").index[:2]
    both = wide[[first, second]].dropna()
    return both[first].to_numpy(), both[second].to_numpy()


def _measured(rows: pd.DataFrame) -> Iterator[str]:
    yield "## Measured: the same profiles, two seeds"
    first, second = pairs_of(rows)
    if len(first) < _FEWEST:
        yield f"{len(first)} profiles have been trained with both seeds; {_FEWEST} are needed."
        return
    found = agreement(first, second)
    overall = resampled(lambda a, b: agreement(a, b).overall, first, second)
    better = resampled(lambda a, b: agreement(a, b).better_half, first, second)
    yield "\n".join(
        [
            "| profiles | overall | 95 % interval | better half | 95 % interval |",
            "|---:|---:|---|---:|---|",
            f"| {len(first)} | {found.overall:.2f} | {overall[0]:.2f} to {overall[1]:.2f} "
            f"| {found.better_half:.2f} | {better[0]:.2f} to {better[1]:.2f} |",
        ]
    )
    moved = 100 * (second - first)
    yield (
        "ResNet-20 on CIFAR-10 from the dense network of 89.41 %, 95 % zeros, "
        f"{rows['nb_epochs'].iloc[0]:g} epoch, accuracy on the 4,000 select images. From one seed "
        f"to the other an accuracy changes by {moved.std(ddof=1) / math.sqrt(2):.2f} points "
        "(standard deviation of one training). Intervals are percentiles over profiles drawn with "
        "replacement. All rows: [trained.csv](trained.csv)."
    )


def _noise(
    rows: pd.DataFrame, tables: Sequence[pd.DataFrame], source: pd.DataFrame
) -> Iterator[str]:
    yield "## Noise of training, and what it lets expect"
    lines = [
        "| network | zeros | epochs | profiles trained again | spread of one profile, points |",
        "|---|---:|---:|---:|---:|",
    ]
    at_source: list[float] = []
    for table in tables:
        for (network, target, epochs), part in table.groupby(["network", "target", "nb_epochs"]):
            noise = noise_of_repeats(part.drop_duplicates(["zeros", "seed"]))
            if not noise.freedom:
                continue
            lines.append(
                f"| {network} | {100 * float(str(target)):g} % | {epochs:g} | {noise.profiles} "
                f"| {100 * noise.spread:.2f} ({noise.freedom} degrees of freedom) |"
            )
            one = source.iloc[0]
            if "resnet20" in str(network) and target == one["target"]:
                at_source += [noise.spread] if epochs == one["nb_epochs"] else []
    again = noise_of_repeats(rows)
    if again.freedom:
        lines.append(
            f"| resnet20, select images | {100 * float(rows['target'].iloc[0]):g} % "
            f"| {rows['nb_epochs'].iloc[0]:g} | {again.profiles} "
            f"| {100 * again.spread:.2f} ({again.freedom} degrees of freedom) |"
        )
        at_source = [again.spread]
    yield "\n".join(lines)
    if not at_source:
        return
    yield from _expected(source["accuracy"].to_numpy(), at_source[-1])


def _expected(once: Values, noise: float) -> Iterator[str]:
    twice, perfect = expected(once, noise)
    yield (
        f"The {len(once)} profiles of `reward_quality` trained to accuracies with a spread of "
        f"{100 * once.std(ddof=1):.2f} points. With noise of {100 * noise:.2f} points "
        "(simulated, 2,000 draws):"
    )
    yield "\n".join(
        [
            "| ranking | overall | better half |",
            "|---|---:|---:|",
            f"| one training beside another | {twice.overall:.2f} | {twice.better_half:.2f} |",
            "| the true accuracies beside one training: the most a score can reach "
            f"| {perfect.overall:.2f} | {perfect.better_half:.2f} |",
            "| the default reward ([measured](../reward_quality/README.md)) | 0.77 | 0.24 |",
        ]
    )
