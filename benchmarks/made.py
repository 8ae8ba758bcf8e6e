"""Notes machine, time and commit of each call that adds rows to a table, and tells them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.table_runs import commit
from ws_learner.core import choose_device, describe_machine, write_text

__all__ = ["made_line", "noted"]


@contextmanager
def noted(notes: Path, table: Path) -> Iterator[None]:
    """Add a line to `notes` for the work inside, stopped or not, if `table` has grown.

    Args:
        notes: CSV file with a line for each call: rows added, processor seconds of this process
            and its ended children, seconds by the clock, machine, commit.
        table: CSV file that the work adds rows to.
    """
    before, begun, used = _length(table), time.perf_counter(), _processor()
    try:
        yield
    finally:
        if added := _length(table) - before:
            facts = describe_machine(choose_device())
            line: dict[str, Any] = {"rows": added, "processor_seconds": round(_processor() - used)}
            line |= {"seconds": round(time.perf_counter() - begun), "commit": commit()}
            line |= {key: facts[key] for key in ("cpu", "bf16")}
            known = pd.read_csv(notes) if notes.exists() else pd.DataFrame()
            lines = pd.concat([known, pd.DataFrame([line])])
            write_text(notes, lines.to_csv(index=False))


def made_line(notes: Path) -> str:
    """A sentence with the sums over all calls; says so if none is noted."""
    if not notes.exists():
        return "No training of this table has been run yet."
    lines = pd.read_csv(notes)
    machines = "; ".join(sorted(set(lines["cpu"])))
    commits = ", ".join(dict.fromkeys(lines["commit"].dropna().astype(str))) or "unknown"
    return (
        f"{lines['rows'].sum()} trainings: {machines}, one thread each, shared with other work, "
        f"{lines['processor_seconds'].sum() / 60:.0f} minutes of processors, "
        f"{lines['seconds'].sum() / 60:.0f} by the clock; commit {commits}."
    )


def _length(table: Path) -> int:
    return len(pd.read_csv(table)) if table.exists() else 0


def _processor() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
