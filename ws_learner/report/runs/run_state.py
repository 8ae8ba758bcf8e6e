"""Where an unfinished run is: its progress log, its lock, and the files it has so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ws_learner.report.runs.fields import number, text
from ws_learner.report.runs.last_line import last_line
from ws_learner.report.runs.row import RunState
from ws_learner.report.runs.run_lock import lock_is_held

__all__ = ["unfinished_state"]


def unfinished_state(run: Path) -> dict[str, Any]:
    """`state`, `progress`, `phase` and `reason` of a run without a summary.

    A run counts as running only while a process holds its lock: a killed one leaves `running` as
    its last word.
    """
    said = last_line(run / "progress.jsonl")
    last, held = text(said, "state"), lock_is_held(run)
    state: RunState = "stopped"
    if held or (held is None and last == "running"):
        state = "running"
    elif last == "failed":
        state = "failed"
    return {
        "state": state,
        "progress": _share(said),
        "phase": text(said, "phase", most=24) or _phase_of_files(run),
        "reason": text(said, "note") if state == "failed" else "",
    }


def _share(said: Mapping[str, Any]) -> float | None:
    """Share of the command that is done, each phase counting the same."""
    place, phases = number(said, "number"), number(said, "phases")
    done, total = number(said, "done") or 0.0, number(said, "total")
    if place is None or not phases or phases < 0:
        return None
    within = done / total if total else 0.0
    share = (place - 1 + min(max(within, 0.0), 1.0)) / phases
    return min(max(share, 0.0), 1.0)


def _phase_of_files(run: Path) -> str:
    """The phase of a run that has no progress log, by the files of the phases before."""
    if (run / "state" / "allocation.json").exists():
        return "training"
    return "search" if (run / "rollouts.csv").exists() else ""
