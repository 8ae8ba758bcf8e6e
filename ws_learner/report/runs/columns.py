"""Columns of a list of runs, as text."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from ws_learner.report.runs.cells import (
    age_text,
    change_text,
    metric_text,
    row_title,
    size_text,
    state_text,
)
from ws_learner.report.runs.row import RunRow

__all__ = ["run_columns"]

_DIGITS = 8


def run_columns(rows: Sequence[RunRow], *, now: float | None = None) -> list[tuple[str, list[str]]]:
    """Head and cells of each column; a cell without a value is empty.

    Args:
        rows: The runs.
        now: For their age, in Unix seconds; by default the clock's.
    """
    moment = time.time() if now is None else now
    names = Counter(row.name for row in rows)
    return [
        ("run", [_title(row, names[row.name]) for row in rows]),
        ("tags", [", ".join(row.tags) for row in rows]),
        ("experiment", [row.experiment for row in rows]),
        ("method", [row.method or row.kind for row in rows]),
        ("protocol", [row.protocol for row in rows]),
        ("target", [row.target for row in rows]),
        ("pattern", [row.pattern for row in rows]),
        ("metric", [metric_text(row) for row in rows]),
        ("change", [change_text(row) for row in rows]),
        ("size", [size_text(row.size_bytes) for row in rows]),
        ("state", [state_text(row) for row in rows]),
        ("age", [age_text(row.changed, now=moment) for row in rows]),
    ]


def _title(row: RunRow, times: int) -> str:
    """The name, with the end of the folder's name if other runs have the same one."""
    title = row_title(row)
    return f"{title} ({row.id[-_DIGITS:]})" if row.name and times > 1 else title
