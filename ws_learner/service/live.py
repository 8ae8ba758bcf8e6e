"""What the page of a run shows, read from its files."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ws_learner.report import ProgressLine, RunRow, read_progress
from ws_learner.service.locks import ProcessUse, processes_of
from ws_learner.service.series import Search, Series, read_search, read_training

__all__ = ["LOG_LINES", "Live", "Phase", "read_live"]

LOG_LINES = 30


@dataclass(frozen=True)
class Phase:
    """A piece of work of a run.

    Attributes:
        line: Its last line of progress.
        current: Whether it is the one that is worked on.
        share: How much of it is done, in [0, 1]; all once another piece has begun, also of a search
            that ended early.
    """

    line: ProgressLine
    current: bool
    share: float


@dataclass(frozen=True)
class Live:
    """What a run's page shows.

    Attributes:
        row: The run.
        phases: Pieces of work of the last start, in their order.
        search: What the search has found.
        training: Curves of the training.
        log: Last lines, of the log or, where there is none, of the progress.
        processes: Of this machine that work on it.
    """

    row: RunRow
    phases: tuple[Phase, ...]
    search: Search | None
    training: tuple[Series, ...]
    log: tuple[str, ...]
    processes: tuple[ProcessUse, ...]

    @property
    def now(self) -> ProgressLine | None:
        """The last line of progress."""
        return self.phases[-1].line if self.phases else None


def read_live(row: RunRow, *, holder: int | None, log: Sequence[str]) -> Live:
    """Read the files of a run.

    Args:
        row: The run.
        holder: The process of this machine that works on it.
        log: What it printed last, if that is known.
    """
    lines = read_progress(row.path / "progress.jsonl")
    return Live(
        row=row,
        phases=_phases(lines, running=row.state == "running"),
        search=read_search(row.path),
        training=read_training(row.path),
        log=tuple(log or _as_log(lines)),
        processes=tuple(processes_of(holder)) if holder is not None else (),
    )


def _phases(lines: Sequence[ProgressLine], *, running: bool) -> tuple[Phase, ...]:
    """The last line of each piece of work since the last start, in order of appearance.

    A piece that counts nothing is left out beside others of its phase, unless it is worked on.
    """
    found: dict[tuple[str, str], ProgressLine] = {}
    for line in lines:
        if line.event == "state" and line.state == "running":
            found = {}
        elif line.event != "state" and line.number is not None:
            found[line.phase, line.description] = line
    count = Counter(line.phase for line in found.values())
    pieces = list(found.values())
    return tuple(
        Phase(line, running and line is pieces[-1], _share(line) if line is pieces[-1] else 1.0)
        for line in pieces
        if line.total > 0 or count[line.phase] == 1 or line is pieces[-1]
    )


def _share(line: ProgressLine) -> float:
    return min(line.done / line.total, 1.0) if line.total > 0 else 0.0


def _as_log(lines: Sequence[ProgressLine]) -> list[str]:
    """Lines of progress as text, where the run's own output is on someone's terminal."""
    shown = [
        f"{time.strftime('%H:%M:%S', time.localtime(line.time))}  "
        f"{line.description or line.state} {line.note}".rstrip()
        for line in lines[-400:]
        if line.event != "progress" or line.note
    ]
    return list(dict.fromkeys(shown))[-LOG_LINES:]
