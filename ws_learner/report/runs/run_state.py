"""Where an unfinished run is: its progress log, its lock, and the files it has so far."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from ws_learner.report.progress_log import ProgressLine, last_progress
from ws_learner.report.runs.row import RunState
from ws_learner.report.runs.run_lock import lock_is_held

__all__ = ["unfinished_state"]


def unfinished_state(run: Path) -> dict[str, Any]:
    """`state`, `progress`, `phase` and `reason` of a run without a summary.

    A run counts as running only while a process holds its lock: a killed one leaves `running` as
    its last word.
    """
    line, held = _last(run / "progress.jsonl"), lock_is_held(run)
    last = "" if line is None else line.state
    state: RunState = "stopped"
    if held or (held is None and last == "running"):
        state = "running"
    elif last == "failed":
        state = "failed"
    failure = "" if line is None else line.note or line.description
    return {
        "state": state,
        "progress": None if line is None else _share(line),
        "phase": ("" if line is None else line.phase[:24]) or _phase_of_files(run),
        "reason": failure if state == "failed" else "",
    }


def _last(path: Path) -> ProgressLine | None:
    try:
        plain = stat.S_ISREG(os.stat(path).st_mode)  # a named pipe would block
    except (OSError, ValueError):
        return None
    return last_progress(path) if plain else None


def _share(line: ProgressLine) -> float | None:
    """Share of the command that is done, each phase counting the same."""
    if line.number is None or line.phases is None:
        return None
    within = min(max(line.done / line.total, 0.0), 1.0) if line.total > 0 else 0.0
    return min((line.number - 1 + within) / line.phases, 1.0)


def _phase_of_files(run: Path) -> str:
    """The phase of a run that has no progress log, by the files of the phases before."""
    if (run / "state" / "allocation.json").exists():
        return "training"
    return "search" if (run / "rollouts.csv").exists() else ""
