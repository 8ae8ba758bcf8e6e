"""Figure of a policy: ratio of each layer at several targets, and the layers' own divergences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ws_learner.report.figure_style import GREY, canvas, plain_label, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from ws_learner.core import AnyPath, as_path

__all__ = ["policy_figure"]

_PREFIX = "density/"
_MOST_NAMES = 40


def policy_figure(table: pd.DataFrame, curves: pd.DataFrame, path: AnyPath) -> None:
    """Draw the emitted ratios, a line per target, and each layer's own divergence.

    Args:
        table: One row per layer, in forward order, with columns `layer` and `density/<target>`.
        curves: Column `density`, and one column of divergences per layer.
        path: The `.svg` or `.png` to write.
    """
    path = as_path(path)
    count = len(table)
    with canvas(path, width=7.6, height=max(3.2, 0.16 * min(count, _MOST_NAMES) + 1.2)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        _ratios(left, table)
        _curves(right, curves)
        for axes in (left, right):
            quiet(axes, grid="both")


def _ratios(axes: Axes, table: pd.DataFrame) -> None:
    from matplotlib import colormaps

    names = [plain_label(name).removesuffix(".weight") for name in table["layer"]]
    targets = [str(name) for name in table.columns if str(name).startswith(_PREFIX)]
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, max(len(targets), 1)))
    for column, shade in zip(targets, shades, strict=True):
        axes.plot(
            1 - table[column],
            range(len(table)),
            marker="o",
            markersize=3,
            linewidth=1,
            color=shade,
            label=column.removeprefix(_PREFIX),
        )
    axes.set_xlabel("prune ratio (share of zero weights)")
    axes.set_xlim(-0.02, 1.02)
    if len(names) <= _MOST_NAMES:
        axes.set_yticks(range(len(names)), names, fontsize=7)
    else:
        axes.set_ylabel("layer")
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.legend(title="target", fontsize=8, title_fontsize=8, loc="best")


def _curves(axes: Axes, curves: pd.DataFrame) -> None:
    from matplotlib import colormaps

    layers = [name for name in curves.columns if name != "density"]
    shades = colormaps["cividis"](np.linspace(0.0, 1.0, max(len(layers), 1)))
    inside = curves["density"] < 1
    for name, shade in zip(layers, shades, strict=True):
        axes.plot(curves["density"][inside], curves[name][inside], color=shade, linewidth=0.9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("density of the layer")
    axes.set_ylabel("own divergence")
    axes.set_title("first layer dark, last light", color=GREY, fontsize=8, fontweight="normal")
