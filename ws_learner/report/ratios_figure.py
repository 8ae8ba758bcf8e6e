"""Figure of the chosen ratios and the weights per layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ws_learner.report.figure_style import BLUE, INK, ORANGE, YELLOW, canvas, plain_label, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ratios_figure", "short_names"]


def ratios_figure(frame: pd.DataFrame, path: Path) -> None:
    """Draw the chosen ratio of each layer and, to its right, its kept and pruned weights.

    Args:
        frame: The ratio table, in forward order; drawn from top to bottom.
        path: The `.svg` or `.png` to write.
    """
    count = len(frame)
    row = min(0.24, max(0.13, 7.2 / max(count, 1)))  # inches; long networks get thinner rows
    size = min(8.5, 46 * row)
    weights = frame["weights"]
    uniform = float((frame["prune_ratio"] * weights).sum() / max(weights.sum(), 1))
    places = list(range(count))
    with canvas(path, width=7.6, height=row * count + 1.25) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.35))
        left.barh(places, frame["prune_ratio"], height=0.72, color=BLUE)
        different = frame["achieved"] != frame["prune_ratio"]
        if different.any():
            where = [place for place, odd in zip(places, different, strict=True) if odd]
            left.plot(frame["achieved"][different], where, "D", color=ORANGE, ms=3.5, ls="none")
        left.axvline(uniform, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        label = f"uniform: {uniform:.4g}"
        left.annotate(
            label,
            (uniform, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="left" if uniform < 0.15 else "right" if uniform > 0.85 else "center",
            fontsize=8,
        )
        for place, ratio in zip(places, frame["prune_ratio"], strict=True):
            left.text(1.015, place, f"{ratio:.3f}", va="center_baseline", fontsize=size)
        left.set_yticks(places, short_names(frame["layer"]), fontsize=size)
        left.set_xlim(0, 1)
        left.set_xlabel("prune ratio (share of zero weights)")
        _weights(right, frame, places)
        left.set_ylim(count - 0.4, -0.6)
        for axes in (left, right):
            quiet(axes, grid="x")
            axes.tick_params(axis="y", length=0)


def _weights(axes: Axes, frame: pd.DataFrame, places: list[int]) -> None:
    """Kept and pruned weights of each layer."""
    scale, unit = _scale(float(frame["weights"].max()))
    all_weights = frame["weights"] / scale
    kept = all_weights * (1 - frame["achieved"])
    axes.barh(places, kept, height=0.72, color=YELLOW, label="kept")
    axes.barh(places, all_weights - kept, left=kept, height=0.72, color=BLUE, label="zero")
    axes.set_xlabel(f"weights{unit}")
    axes.set_xlim(0, None)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=2,
        fontsize=8,
        borderpad=0.1,
        handlelength=1.0,
        columnspacing=1.0,
    )


def _scale(largest: float) -> tuple[float, str]:
    if largest >= 1e6:
        return 1e6, " (millions)"
    return (1e3, " (thousands)") if largest >= 1e4 else (1.0, "")


def short_names(names: pd.Series[str]) -> list[str]:
    """Layer names without the `.weight` they all end with."""
    texts = [plain_label(name) for name in names]
    if all(text.endswith(".weight") for text in texts):
        return [text.removesuffix(".weight") for text in texts]
    return texts
