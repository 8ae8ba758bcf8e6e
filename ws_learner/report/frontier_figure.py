"""Figure of a search for many targets: reward and metric over sparsity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ws_learner.report.figure_style import BLUE, GREY, canvas, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["frontier_figure"]


def frontier_figure(frontier: pd.DataFrame, path: Path, *, metric: str = "accuracy") -> None:
    """Draw predicted and measured reward, and the measured metric, of each emitted profile.

    The axis of sparsity is even in ln(density). A rollout that failed is left out.

    Args:
        frontier: The rows of `frontier.csv`.
        path: The `.svg` or `.png` to write.
        metric: Label of the second axis.
    """
    place = -np.log(1 - frontier["target"])
    with canvas(path, width=7.6, height=3.0) as figure:
        left, right = figure.subplots(1, 2)
        predicted = {"color": GREY, "ms": 5, "mfc": "none", "ls": (0, (4, 3)), "lw": 1.0}
        left.plot(place, frontier["predicted_reward"], "D", label="predicted", **predicted)
        measured = {"color": BLUE, "ms": 4, "ls": "-", "lw": 1.4}
        left.plot(place, frontier["reward"], "o", label="measured", **measured)
        left.set_ylabel("reward")
        left.legend(loc="lower left", fontsize=8)
        right.plot(place, frontier["accuracy"], "o", **measured)
        right.set_ylabel(metric)
        for axes in (left, right):
            _sparsity_axis(axes, frontier["target"])
            quiet(axes, grid="y")


def _sparsity_axis(axes: Axes, targets: pd.Series[float]) -> None:
    shown = sorted({*targets.iloc[::2].tolist(), targets.iloc[-1]})
    labels = [f"{target:.3g}" for target in shown]
    axes.set_xticks([float(-np.log(1 - target)) for target in shown], labels, fontsize=8)
    axes.set_xlabel("prune ratio (share of zero weights)")
