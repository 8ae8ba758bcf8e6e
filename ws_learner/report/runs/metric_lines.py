"""Metrics, costs and times of runs, with intervals where they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ws_learner.core import UserError
from ws_learner.report.intervals import difference_interval, share_interval
from ws_learner.report.runs.comparison import Difference, MetricLine
from ws_learner.report.runs.fields import number, read_object
from ws_learner.report.runs.row import RunRow

__all__ = ["metric_lines"]

_NUMBERS = (
    ("achieved prune ratio", "achieved_prune_ratio", ""),
    ("MACs, dense", "dense_macs", "MACs"),
    ("MACs, kept", "kept_macs", "MACs"),
    ("rollouts", "rollouts", ""),
    ("search time", "search_seconds", "s"),
    ("training time", "train_seconds", "s"),
)
"""Line, entry of the summary, unit."""


def metric_lines(rows: Sequence[RunRow], *, comparable: bool) -> tuple[MetricLine, ...]:
    """The lines of all runs; those that no run has are left out.

    Args:
        rows: The runs.
        comparable: Whether they were measured on the same examples.
    """
    lines = [
        _measured(rows, kind=kind, network=network, comparable=comparable)
        for kind in dict.fromkeys((row.metric, row.unit, row.measured_on) for row in rows)
        for network in ("dense", "sparse", "change")
    ]
    summaries = [_summary(row) for row in rows]
    for name, entry, unit in _NUMBERS:
        lines.append(_plain(name, unit, [number(one, entry) for one in summaries]))
    sizes = [None if row.size_bytes is None else float(row.size_bytes) for row in rows]
    lines.append(_plain("model.safetensors", "bytes", sizes))
    return tuple(line for line in lines if any(value is not None for value in line.values))


def _measured(
    rows: Sequence[RunRow], *, kind: tuple[str, str, str], network: str, comparable: bool
) -> MetricLine:
    """A line of one metric; runs with another metric have no value in it."""
    metric, unit, measured_on = kind
    values = [
        getattr(row, network) if (row.metric, row.unit, row.measured_on) == kind else None
        for row in rows
    ]
    if network == "change":
        return _plain(f"change of {metric}", "points" if unit == "share" else unit, values)
    name = f"{network} {metric} ({measured_on})"
    counts = [row.examples if unit == "share" else None for row in rows]
    known = [
        (value, count) if value is not None and 0 <= value <= 1 and count else None
        for value, count in zip(values, counts, strict=True)
    ]
    return MetricLine(
        name=name,
        unit=unit,
        values=tuple(values),
        intervals=tuple(None if one is None else share_interval(*one) for one in known),
        differences=(None, *(_difference(known[0], one, comparable) for one in known[1:])),
    )


def _difference(
    first: tuple[float, int] | None, second: tuple[float, int] | None, comparable: bool
) -> Difference | None:
    if first is None or second is None or not comparable:
        return None
    low, high = difference_interval(first[0], second[0], examples=(first[1], second[1]))
    return Difference(value=second[0] - first[0], low=low, high=high)


def _plain(name: str, unit: str, values: Sequence[float | None]) -> MetricLine:
    none = (None,) * len(values)
    return MetricLine(name=name, unit=unit, values=tuple(values), intervals=none, differences=none)


def _summary(row: RunRow) -> Mapping[str, Any]:
    if row.state != "finished":
        return {}
    try:
        return read_object(row.path / "summary.json")
    except UserError:  # a sweep has none
        return {}
