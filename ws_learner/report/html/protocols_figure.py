"""Figure of the ratios of several protocols, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from envs import FloatArray
from ws_learner.report.figure_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    YELLOW,
    Margins,
    plain_label,
    quiet,
)
from ws_learner.report.html.svg import PINK, legend_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_protocols", "height_of", "margins_of"]

_NAMED = 40
_LONGEST = 26
_COLUMNS = 4
_MARKS = ((ORANGE, "D"), (GREEN, "^"), (PINK, "v"), (YELLOW, "s"), (GREY, "x"))


def height_of(layers: int) -> float:
    """Inches of the figure: a row for each layer, or a plot over their numbers if they are many."""
    return 1.2 + 0.17 * layers if layers <= _NAMED else 3.4


def margins_of(layers: Sequence[str], others: int) -> Margins:
    """Margins of the figure."""
    longest = max(len(_short(name)) for name in layers)
    left = 0.2 + 0.065 * longest if len(layers) <= _NAMED else 0.65
    return Margins(left=left, top=legend_height(others + 1, _COLUMNS))


def draw_protocols(
    figure: Figure, *, layers: Sequence[str], chosen: FloatArray, others: Mapping[str, FloatArray]
) -> None:
    """Draw the ratio of each layer.

    Args:
        figure: Drawn on.
        layers: L names, in forward order.
        chosen: (L,) ratios of the run.
        others: (L,) ratios by protocol, five at most.
    """
    axes = figure.subplots()
    if len(layers) <= _NAMED:
        _rows(axes, layers, chosen, others)
    else:
        _lines(axes, chosen, others)
    options = {"ncols": _COLUMNS, "fontsize": 8, "handletextpad": 0.4, "columnspacing": 1.2}
    figure.legend(loc="outside upper left", **options)


def _rows(
    axes: Axes, layers: Sequence[str], chosen: FloatArray, others: Mapping[str, FloatArray]
) -> None:
    places = range(len(layers))
    axes.hlines(places, 0, 1, color=LIGHT, lw=0.7, zorder=0)
    for (name, ratios), (colour, mark) in zip(others.items(), _MARKS, strict=False):
        style = {"ls": "none", "color": colour, "ms": 4.5, "alpha": 0.9}
        axes.plot(ratios, places, mark, label=plain_label(name), **style)  # type: ignore[arg-type]
    ring = {"ls": "none", "mfc": "none", "mec": BLUE, "mew": 1.8, "ms": 8}
    axes.plot(chosen, places, "o", label="chosen", **ring)  # type: ignore[arg-type]
    axes.set_yticks(places, [_short(name) for name in layers], fontsize=8)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("prune ratio (share of zero weights)")
    quiet(axes, grid="x")
    axes.tick_params(axis="y", length=0)


def _lines(axes: Axes, chosen: FloatArray, others: Mapping[str, FloatArray]) -> None:
    for (name, ratios), (colour, _) in zip(others.items(), _MARKS, strict=False):
        axes.plot(range(len(ratios)), ratios, color=colour, lw=1.0, label=plain_label(name))
    axes.plot(range(len(chosen)), chosen, color=BLUE, lw=1.8, label="chosen")
    axes.set_xlabel("layer, in forward order")
    axes.set_ylabel("prune ratio")
    axes.set_ylim(-0.02, 1.02)
    axes.spines["left"].set_color(INK)
    quiet(axes, grid="y")


def _short(name: str) -> str:
    """A name that leaves room for the plot: its end says which layer it is."""
    own = name.removesuffix(".weight")
    return plain_label(own if len(own) <= _LONGEST else f"...{own[3 - _LONGEST :]}")
