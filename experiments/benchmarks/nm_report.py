"""Table and curves of the N:M recipes, from the files of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ws_learner.files import read_json, write_text

__all__ = ["interval", "write_report"]

CURVES = ("step", "gradient variance", "second-moment variance", "mask change", "loss")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t; nan for one value."""
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, float("nan")
    spread = float(np.std(values, ddof=1)) / count**0.5
    return mean, float(t.ppf(0.975, count - 1)) * spread


def write_report(folder: Path) -> None:
    """Write `table.md` and `curves.svg` into the folder that holds the runs' JSON files."""
    runs = [read_json(path) for path in sorted(folder.glob("*.json"))]
    if not runs:
        return
    write_text(folder / "table.md", _table(runs))
    _draw(runs, folder / "curves.svg")


def _table(runs: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| network | recipe | pattern | zeros | seeds | test accuracy | less dense, paired |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for network, recipe in dict.fromkeys((run["network"], run["recipe"]) for run in runs):
        mine = {r["seed"]: r for r in runs if (r["network"], r["recipe"]) == (network, recipe)}
        dense = {r["seed"]: r for r in runs if (r["network"], r["recipe"]) == (network, "dense")}
        first = next(iter(mine.values()))
        pairs = [mine[s]["test"] - dense[s]["test"] for s in mine if s in dense]
        difference = _points(pairs) if pairs and recipe != "dense" else ""
        accuracy = _points([run["test"] for run in mine.values()], sign="")
        lines.append(
            f"| {network} | {recipe} | {first['pattern']} | {first['zeros']:,} | {len(mine)} | "
            f"{accuracy} | {difference} |"
        )
    return "\n".join(lines) + "\n"


def _points(values: Sequence[float], *, sign: str = "+") -> str:
    mean, half = interval([100 * value for value in values])
    return f"{mean:{sign}.2f}" + ("" if np.isnan(half) else f" ± {half:.2f}")


def _draw(runs: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [run for run in runs if run["seed"] == 0 and run["network"] == "vit"]
    if not shown:
        return
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6))
    for axis, column in zip(axes, (1, 2, 3), strict=True):
        for run in shown:
            curve = np.array(run["curves"])
            values = curve[1:, column] if column == 3 else curve[:, column]
            if values.any():
                axis.plot(curve[-len(values) :, 0], values, label=run["recipe"], linewidth=1)
        axis.set_xlabel("step")
        axis.set_title(CURVES[column])
        axis.set_yscale("log" if column != 3 else "linear")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
