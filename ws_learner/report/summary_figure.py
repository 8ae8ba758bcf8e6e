"""The picture of a run: what pruning costs and gains, and the prune ratio of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ws_learner.core import shown
from ws_learner.report.figure_style import BLUE, GREEN, GREY, INK, canvas, plain_label, quiet
from ws_learner.report.headlines import title
from ws_learner.report.ratios_figure import short_names
from ws_learner.report.summary_bars import Panel, summary_panels
from ws_learner.report.table import totals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_NAMED", "summary_figure"]

MOST_NAMED = 40
"""Layers that are drawn with their names; more of them become one outline."""

_MOST_TITLE = 100  # characters that fit the width
_COLOURS = {"pruned": BLUE, "in INT8": GREEN}


def summary_figure(
    summary: Mapping[str, Any],
    frame: pd.DataFrame | None,
    path: Path,
    *,
    deployed: Mapping[str, Any] | None = None,
) -> None:
    """Draw metric, size and latency of both networks, and to their right the ratios.

    The ground is white, so the picture can be read on a light and on a dark page.

    Args:
        summary: The content of `summary.json`.
        frame: The ratio table, in forward order; None for a run that sets no ratios.
        path: The `.svg` or `.png` to write.
        deployed: The content of `deploy/deploy.json`, for a latency measured by the export.
    """
    frame = None if frame is None or frame.empty else frame
    panels = summary_panels(summary, frame, deployed)
    count = 0 if frame is None else min(len(frame), MOST_NAMED)
    with canvas(path, width=8.4, height=max(3.6, 0.17 * count + 1.0)) as figure:
        widths = [1.0] if frame is None else [1.0, 1.25]
        grid = figure.add_gridspec(len(panels), len(widths), width_ratios=widths)
        if frame is not None:
            _ratios(figure.add_subplot(grid[:, 1]), frame)
        for row, panel in enumerate(panels):
            _bars(figure.add_subplot(grid[row, 0]), panel)
        named = shown(title(summary), most=_MOST_TITLE).replace("$", r"\$")
        figure.suptitle(named, x=0.01, ha="left", fontsize=10)


def _bars(axes: Axes, panel: Panel) -> None:
    axes.set_title(plain_label(panel.title))
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    if not panel.bars:
        axes.set_yticks([])
        axes.text(0, 0.5, panel.note, transform=axes.transAxes, va="center", fontsize=8)
        return
    values = [bar.value for bar in panel.bars]
    places = range(len(values))
    colours = [_COLOURS.get(bar.network, GREY) for bar in panel.bars]
    axes.barh(places, values, height=0.7, color=colours)
    axes.set_yticks(places, [bar.network for bar in panel.bars])
    axes.set_ylim(len(values) - 0.4, -0.6)
    most = max(values) or 1.0
    axes.set_xlim(0, 1.45 * most)  # room for the texts behind the bars
    for place, bar in zip(places, panel.bars, strict=True):
        text = plain_label(bar.text)
        axes.text(bar.value + 0.03 * most, place, text, va="center_baseline", weight="bold")


def _ratios(axes: Axes, frame: pd.DataFrame) -> None:
    achieved = [float(value) for value in frame["achieved"]]
    count, overall = len(achieved), float(totals(frame)["achieved_prune_ratio"])
    axes.set_title("prune ratio of each layer")
    axes.set_xlabel(f"share of zero weights (dashed: of all layers, {100 * overall:.4g} %)")
    if count <= MOST_NAMED:
        places = range(count)
        axes.barh(places, achieved, height=0.72, color=BLUE)
        axes.set_yticks(places, short_names(frame["layer"]), fontsize=7.5)
        for place, value in zip(places, achieved, strict=True):
            axes.text(1.015, place, f"{value:.3f}", va="center_baseline", fontsize=7.5)
    else:
        edges = [place - 0.5 for place in range(count + 1)]
        axes.stairs(achieved, edges, orientation="horizontal", fill=True, color=BLUE)
        axes.set_ylabel(f"{count:,} layers, in forward order")
        axes.set_yticks([])
    axes.axvline(overall, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 1)
    axes.set_ylim(count - 0.4, -0.6)
    quiet(axes, grid="x")
    axes.tick_params(axis="y", length=0)
