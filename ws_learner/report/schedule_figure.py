"""Figure of the pruning schedule: accuracy and sparsity over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ws_learner.report.figure_style import BLUE, GREEN, GREY, ORANGE, canvas, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_schedule", "panels_of", "schedule_figure"]


Panel = tuple[list[tuple[str, str]], str]

_RATIOS = {"prune/planned": "planned", "prune/ratio": "counted"}
_MOVEMENT = {"prune/threshold": "threshold", "prune/factor": "penalty factor"}
_STYLES = {
    "select/accuracy": {"color": BLUE, "marker": "o", "ms": 3.5, "lw": 1.6},
    "select/metric": {"color": BLUE, "marker": "o", "ms": 3.5, "lw": 1.6},
    "train/accuracy": {"color": GREY, "lw": 1.0},
    "train/loss": {"color": BLUE, "lw": 1.3},
    "prune/planned": {"color": GREY, "lw": 1.2, "ls": "--"},
    "prune/ratio": {"color": ORANGE, "lw": 1.8, "drawstyle": "steps-post"},
    "prune/threshold": {"color": BLUE, "lw": 1.3},
    "prune/factor": {"color": ORANGE, "lw": 1.3},
}


def schedule_figure(metrics: pd.DataFrame, path: Path, *, metric: str = "metric") -> None:
    """Draw the metric, or the loss without it, and below it overall sparsity over the steps.

    Args:
        metrics: The rows of `metrics.csv`. If sparsity was logged, only phases that logged it are
            drawn.
        path: The `.svg` or `.png` to write.
        metric: Name and unit of a metric that is no accuracy.
    """
    with canvas(path, width=7.0, height=1.0 + 1.75 * len(panels_of(metrics, metric))) as figure:
        draw_schedule(figure, metrics, metric=metric)


def draw_schedule(
    figure: Figure,
    metrics: pd.DataFrame,
    *,
    metric: str = "metric",
    dense: tuple[float, str] | None = None,
) -> None:
    """Draw `schedule_figure` on a figure; `dense` is the dense network's value and its label."""
    panels = panels_of(metrics, metric)
    metrics = _planned_apart(_of_pruning(metrics))
    stack = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (lines, label) in zip(stack, panels, strict=True):
        level = dense if axes is stack[0] and "loss" not in label else None
        _lines(axes, metrics, lines, level)
        axes.set_ylabel(label)
    ratios = panels[1][0] if len(panels) > 1 and panels[1][0][-1][0] in _RATIOS else []
    if ratios:
        _mark_end(stack[1], metrics[metrics[ratios[-1][0]].notna()].iloc[-1], ratios[-1][0])
    stack[-1].set_xlabel("optimizer step")
    figure.align_ylabels(list(stack))


def panels_of(metrics: pd.DataFrame, metric: str) -> list[Panel]:
    """The figure's panels, from top to bottom: lines as (column, label), and the axis label."""
    metrics = _of_pruning(metrics)
    panels = [_quality(metrics, metric)]
    metrics = _planned_apart(metrics)
    ratios = [(name, text) for name, text in _RATIOS.items() if _has(metrics, name)]
    if ratios:
        panels.append((ratios, "sparsity\n(share of zero weights)"))
    return panels + [
        ([(name, text)], f"movement:\n{text}")
        for name, text in _MOVEMENT.items()
        if _has(metrics, name)
    ]


def _of_pruning(metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows of phases that logged sparsity, if one did."""
    if "prune/ratio" not in metrics or "phase" not in metrics:
        return metrics
    pruned = metrics.loc[metrics["prune/ratio"].notna(), "phase"].unique()
    return metrics[metrics["phase"].isin(pruned)] if len(pruned) else metrics


def _planned_apart(metrics: pd.DataFrame) -> pd.DataFrame:
    """Older rows hold the planned share under `prune/ratio` and nothing under `prune/planned`."""
    if "prune/ratio" not in metrics:
        return metrics
    planned = metrics.get("prune/planned", pd.Series(np.nan, index=metrics.index))
    counted = metrics["prune/ratio"].where(planned.notna())
    both = {"prune/planned": planned.fillna(metrics["prune/ratio"]), "prune/ratio": counted}
    return metrics.assign(**both)


def _mark_end(axes: Axes, last: pd.Series, name: str) -> None:
    """Label the end of a line with its last value and start the axis at zero."""
    axes.annotate(
        f"{last[name]:.4g}",
        (last["step"], last[name]),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
    )
    axes.set_ylim(0, max(1.18 * axes.get_ylim()[1], 0.01))


def _quality(metrics: pd.DataFrame, metric: str) -> Panel:
    lines = [
        (name, text)
        for name, text in (
            ("train/accuracy", "train, augmented"),
            ("select/accuracy", "select images"),
        )
        if _has(metrics, name)
    ]
    if lines:
        return lines, "accuracy\n(share right)"
    if _has(metrics, "select/metric"):
        return [("select/metric", "select split")], metric
    return [("train/loss", "train")] if _has(metrics, "train/loss") else [], "loss (nats)"


def _has(metrics: pd.DataFrame, name: str) -> bool:
    return name in metrics and bool(metrics[name].notna().any())


def _lines(
    axes: Axes,
    metrics: pd.DataFrame,
    lines: list[tuple[str, str]],
    dense: tuple[float, str] | None = None,
) -> None:
    for name, text in lines:
        rows = metrics[metrics[name].notna()]
        axes.plot(rows["step"], rows[name], label=text, **_STYLES[name])  # type: ignore[arg-type]
    count = len(lines)
    if dense is not None:
        level, label = dense
        axes.axhline(level, color=GREEN, lw=1.2, ls="-.", label=label)
        count += 1
    quiet(axes, grid="y")
    if count > 1:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 0.98), ncols=count, fontsize=8, borderpad=0.1
        )
