"""Values of a run as text, for tables of any kind."""

from __future__ import annotations

import time

from ws_learner.report.runs.comparison import MetricLine
from ws_learner.report.runs.row import RunRow

__all__ = [
    "age_text",
    "change_text",
    "interval_text",
    "metric_cells",
    "metric_text",
    "row_title",
    "size_text",
    "state_text",
    "value_text",
]

_STEPS = ((60.0, "s", 1.0), (3600.0, "min", 60.0), (86400.0, "h", 3600.0))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def row_title(row: RunRow) -> str:
    """What a run is called: its name, or its folder."""
    return row.name or row.id


def metric_text(row: RunRow) -> str:
    """The metric of the sparse network, of a dense training that of the dense one."""
    value = row.dense if row.kind == "dense" else row.sparse
    if value is None:
        return ""
    text = value_text(value, row.unit)
    return text if row.metric in ("accuracy", "") else f"{row.metric} {text}"


def change_text(row: RunRow) -> str:
    """Sparse minus dense: percentage points of a share, else in the metric's unit."""
    if row.change is None:
        return ""
    if row.unit == "share":
        return f"{100 * row.change:+.2f}"
    return f"{row.change:+.4g} {row.unit}".rstrip()


def state_text(row: RunRow) -> str:
    """Such as `finished` or `running, search 42 %`."""
    if row.state == "finished":
        return row.state
    share = "" if row.progress is None else f"{100 * row.progress:.0f} %"
    where = " ".join(part for part in (row.phase, share) if part)
    return f"{row.state}, {where}" if where else row.state


def size_text(count: float | None) -> str:
    """Bytes in a unit of three digits, such as `47.3 kB`."""
    if count is None:
        return ""
    for step, unit in _SIZES:
        if count >= step:
            return f"{count / step:.3g} {unit}"
    return f"{count:.0f} B"


def age_text(moment: float, *, now: float | None = None) -> str:
    """Time since a moment in Unix seconds, such as `3 min`, in whole units."""
    seconds = max(0.0, (time.time() if now is None else now) - moment)
    for most, unit, size in _STEPS:
        if seconds < most:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds // 86400:.0f} d"


def value_text(value: float | None, unit: str) -> str:
    """A value with its unit; shares in percent; `-` for None."""
    if value is None:
        return "-"
    if unit == "share":
        return f"{100 * value:.2f} %"
    if unit == "points":
        return f"{100 * value:+.2f}"
    if unit == "bytes":
        return size_text(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f} {unit if unit != 'MACs' else ''}".rstrip()
    return f"{value:.6g} {unit}".rstrip()


def interval_text(ends: tuple[float, float] | None, *, signed: bool = False) -> str:
    """Ends of an interval of shares, in percent: `87.02 to 90.88`; empty for None."""
    if ends is None:
        return ""
    low, high = (f"{100 * end:{'+' if signed else ''}.2f}" for end in ends)
    return f"{low} to {high}"


def metric_cells(line: MetricLine) -> list[tuple[str, list[str]]]:
    """A metric as rows of text: the values, and below them what is known of their intervals."""
    rows = [(line.name, [value_text(value, line.unit) for value in line.values])]
    if any(one is not None for one in line.intervals):
        rows.append(("  95 % interval", [interval_text(one) for one in line.intervals]))
    if any(one is not None and one.value for one in line.differences):
        found = line.differences
        rows.append(("  against A", ["" if d is None else f"{100 * d.value:+.2f}" for d in found]))
        ends = [None if d is None else (d.low, d.high) for d in found]
        rows.append(("  95 % interval", [interval_text(one, signed=True) for one in ends]))
        verdict = ["" if d is None else "not shown" if d.within else "shown" for d in found]
        rows.append(("  a difference is", verdict))
    return rows
