"""The training: curves of loss, metric and sparsity, and the last value of each scalar."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ws_learner.report.figure_style import Margins, plain_label
from ws_learner.report.html.limits import thinned
from ws_learner.report.html.run_files import RunFiles, text
from ws_learner.report.html.svg import drawing
from ws_learner.report.metrics import SCALARS
from ws_learner.report.schedule_figure import draw_schedule, panels_of

__all__ = ["Training", "training_of"]

_MOST_POINTS = 2000


@dataclass(frozen=True)
class Training:
    """The log of a training.

    Attributes:
        figure: Curves over the optimizer steps.
        rows: Number of rows of `metrics.csv`.
        scalars: Name, last value and meaning.
        dense: Whether the figure has the dense network's line.
    """

    figure: str
    rows: int
    scalars: list[tuple[str, str, str]]
    dense: bool


def training_of(files: RunFiles) -> Training | None:
    """The training; None if nothing was logged."""
    log, metric = files.metrics, files.metric
    if log is None:
        return None
    scalars = [
        (name, f"{log[name].dropna().iloc[-1]:.6g}", meaning)
        for name, meaning in SCALARS.items()
        if name in log and log[name].notna().any()
    ]
    if not scalars:
        return None
    value, sparse = metric.value("dense"), metric.value("sparse")
    named = {"select/accuracy", "select/metric"} & set(log.columns)
    level = None
    if named and value is not None and sparse is not None:
        level = (value, plain_label(f"dense, {text(metric.measured_on, 20)}"))
    unit = "" if metric.unit in ("", "share") else f"\n({plain_label(text(metric.unit, 30))})"
    label = plain_label(text(metric.name, 40)) + unit
    measured = log[sorted(named)].notna().any(axis=1) if named else log["step"].isna()
    points = thinned(log, measured, most=_MOST_POINTS)
    draw = partial(draw_schedule, metrics=points, metric=label, dense=level)
    height = 0.8 + 1.7 * len(panels_of(log, label))
    figure = drawing(
        draw,
        height=height,
        margins=Margins(left=0.82, top=0.3),
        name="training",
        label="training curves",
    )
    return Training(figure, len(log), scalars, level is not None)
