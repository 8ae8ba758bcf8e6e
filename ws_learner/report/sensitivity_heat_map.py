"""Figure of a sensitivity table: a heat map of layers x ratios, a panel per pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ws_learner.core import AnyPath, as_path
from ws_learner.report.figure_style import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm

__all__ = ["sensitivity_figure"]

_MOST_NAMES = 80
_LEAST = 1e-9


def sensitivity_figure(table: pd.DataFrame, path: AnyPath) -> None:
    """Draw each layer's own divergence at each ratio, or its output error if that is not known.

    Args:
        table: In long form, with columns `layer`, `pattern`, `ratio`, `divergence` and `error`.
        path: The `.svg` or `.png` to write.
    """
    path = as_path(path)
    known = bool(table["divergence"].notna().any())
    column = "divergence" if known else "error"
    layers = list(dict.fromkeys(table["layer"]))
    patterns = list(dict.fromkeys(table["pattern"]))
    grids = [_grid(table[table["pattern"] == one], layers, column) for one in patterns]
    widths = [grid.shape[1] for grid in grids]
    row = min(0.24, max(0.13, 7.2 / len(layers)))  # inches; long networks get thinner rows
    with canvas(path, width=3.4 + 0.62 * sum(widths), height=row * len(layers) + 1.3) as figure:
        axes = figure.subplots(1, len(grids), sharey=True, squeeze=False, width_ratios=widths)[0]
        shade = _shades(grids)
        for place, (one, grid) in enumerate(zip(patterns, grids, strict=True)):
            image = _panel(axes[place], grid, shade, title=one)
        if len(layers) <= _MOST_NAMES:
            names = [str(name).removesuffix(".weight") for name in layers]
            axes[0].set_yticks(range(len(layers)), names, fontsize=min(8.5, 46 * row))
        else:
            axes[0].set_ylabel("layer, in forward order")
        about = "divergence, this layer alone pruned" if known else "squared output error, relative"
        figure.colorbar(image, ax=list(axes), label=about, fraction=0.05, pad=0.02)
        figure.supxlabel("prune ratio of the layer", fontsize=9)


def _grid(own: pd.DataFrame, layers: list[str], column: str) -> pd.DataFrame:
    """Layers x ratios; NaN where the pattern does not fit the layer."""
    return own.pivot(index="layer", columns="ratio", values=column).reindex(layers)


def _shades(grids: list[pd.DataFrame]) -> LogNorm:
    from matplotlib.colors import LogNorm

    values = np.concatenate([grid.to_numpy(dtype=float).ravel() for grid in grids])
    above = values[np.isfinite(values) & (values > _LEAST)]
    low, high = (float(above.min()), float(above.max())) if len(above) else (_LEAST, 1.0)
    return LogNorm(vmin=low, vmax=max(high, low * 10), clip=True)


def _panel(axes: Axes, grid: pd.DataFrame, shade: LogNorm, *, title: str) -> Any:
    from matplotlib import colormaps

    values = grid.to_numpy(dtype=float)
    shown = np.ma.masked_invalid(np.where(values > _LEAST, values, shade.vmin or _LEAST))
    shown = np.ma.masked_where(np.isnan(values), shown)
    image = axes.imshow(
        shown, aspect="auto", cmap=colormaps["cividis"].with_extremes(bad="white"), norm=shade
    )
    axes.set_xticks(range(len(grid.columns)), [f"{ratio:g}" for ratio in grid.columns])
    axes.set_title(title)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image
