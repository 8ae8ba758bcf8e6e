"""How long the phases of earlier runs took, from their `progress.jsonl`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ws_learner.core import PROGRESS_FILE, AnyPath, as_path
from ws_learner.report.progress_log import ProgressLine, read_progress

__all__ = ["PhaseTime", "expected_seconds", "phase_times"]

_COUNTED = ("dense", "search", "finalists", "training")
_HASHED = re.compile(r"(.+)-[0-9a-f]{8}")
_MOST_RUNS = 5


@dataclass(frozen=True)
class PhaseTime:
    """Time of one phase.

    Attributes:
        whole: Seconds from its beginning to the next phase; None if it was not seen whole.
        unit: Mean seconds of a unit, such as a step or a rollout; None without counted units.
    """

    whole: float | None
    unit: float | None


def phase_times(lines: Iterable[ProgressLine]) -> dict[str, PhaseTime]:
    """The times of each phase, from the last process that was in it."""
    found: dict[str, PhaseTime] = {}
    for process in _processes(lines):
        starts = [one for one in _firsts(process) if one.phase]
        ends = [*starts[1:], process[-1]]
        for start, end in zip(starts, ends, strict=False):
            own = [line for line in process if line.phase == start.phase]
            over = end.phase != start.phase or end.state == "finished"
            resumed = any(line.done for line in own if line.event == "phase")
            whole = end.time - start.time if over and not resumed else None
            found[start.phase] = PhaseTime(whole, _unit(own))
    return found


def expected_seconds(
    run: AnyPath, units: Mapping[str, float]
) -> tuple[dict[str, float], Path | None]:
    """What the phases of a run will take, by the newest runs of the same name, itself among them.

    Args:
        run: The run's folder; runs of the same name differ in the hash at its end.
        units: Steps, rollouts and profiles of the phases that are counted.

    Returns:
        Seconds of each phase that an earlier run has had, and the newest of those runs.
    """
    seconds: dict[str, float] = {}
    source: Path | None = None
    for folder in _neighbours(as_path(run)):
        for name, time in phase_times(read_progress(folder / PROGRESS_FILE)).items():
            if name in _COUNTED:
                known = time.unit * units[name] if time.unit and name in units else None
            else:
                known = time.whole
            if known is not None and name not in seconds:
                seconds[name] = known
                source = source or folder
    return seconds, source


def _neighbours(run: Path) -> Sequence[Path]:
    named = _HASHED.fullmatch(run.name)
    if named is None or not run.parent.is_dir():
        return [run]
    form = re.compile(re.escape(named[1]) + r"-[0-9a-f]{8}")
    found: list[tuple[float, Path]] = []
    for path in run.parent.iterdir():
        if form.fullmatch(path.name) and path != run:
            try:
                found.append(((path / PROGRESS_FILE).stat().st_mtime, path))
            except OSError:  # it has none
                continue
    return [run, *(path for _, path in sorted(found, reverse=True)[:_MOST_RUNS])]


def _processes(lines: Iterable[ProgressLine]) -> list[list[ProgressLine]]:
    """The lines of each process that worked at the run."""
    found: list[list[ProgressLine]] = []
    for line in lines:
        if not found or (line.event == "state" and line.state == "running"):
            found.append([])
        found[-1].append(line)
    return found


def _firsts(lines: Sequence[ProgressLine]) -> list[ProgressLine]:
    """The first line of each phase."""
    changes = [b for a, b in pairwise(lines) if b.phase != a.phase]
    return [lines[0], *changes]


def _unit(lines: Sequence[ProgressLine]) -> float | None:
    """Seconds of a unit in the last piece of work that has moved."""
    first = last = None
    for line in lines:
        if line.event == "phase":
            first = line
        elif first is not None and line.event == "progress" and line.done > first.done:
            last = line.elapsed_s / (line.done - first.done)
    return last
