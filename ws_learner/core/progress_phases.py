"""The phases of a command, numbered, and an estimate of the time that is left of all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from ws_learner.core.elapsed import Work, duration_text
from ws_learner.core.messages import say_passing

__all__ = ["PHASES", "Phases", "current_phases", "enter_phase", "expect_phases", "plan_phases"]

PHASES = {
    "dense": "dense training",
    "database": "measuring the layers",
    "search": "search",
    "finalists": "scoring the finalists again",
    "training": "sparse training",
    "report": "report",
}
"""Identifier and name of each phase, in order."""

_LEAST_SAID = 5.0
_OF_MANY_PARTS = ("database", "report")
_PHASES: ContextVar[Phases | None] = ContextVar("phases", default=None)


@dataclass
class Phases:
    """The phases of one command.

    Attributes:
        names: Identifiers in order.
        place: Index of the current phase; None before the first.
        began: When it began, by `time.monotonic`.
        seconds: Expected time of phases.
        alike: Phases whose units take as long as those of an earlier phase: its identifier and the
            number of units.
        source: What the expectation comes from.
    """

    names: tuple[str, ...]
    place: int | None = None
    began: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    alike: dict[str, tuple[str, float]] = field(default_factory=dict)
    source: str = ""
    _speeds: dict[str, float] = field(default_factory=dict)
    _said: bool = False

    @property
    def current(self) -> str:
        """Identifier of the current phase; empty before the first."""
        return "" if self.place is None else self.names[self.place]

    def enter(self, name: str) -> bool:
        """Go on to a phase; earlier ones and those that are not planned leave it as it is."""
        if name not in self.names:
            return False
        place = self.names.index(name)
        if self.place is not None and place <= self.place:
            return False
        self.place, self.began = place, time.monotonic()
        return True

    def learn(self, work: Work) -> None:
        """Note how long a unit of the current phase takes."""
        if (speed := work.unit_seconds()) is not None:
            self._speeds[self.current] = speed

    def left(self, work: Work | None, now: float) -> float | None:
        """Estimated seconds until the command ends; None if a phase is not known yet."""
        if self.place is None:
            later, here = self.names, 0.0
        else:
            later, found = self.names[self.place + 1 :], self._left_here(work, now)
            if found is None:
                return None
            here = found
        expected = [self._expected(name) for name in later]
        return None if None in expected else here + sum(one for one in expected if one is not None)

    def announce(self, left: float | None) -> None:
        """Say the estimate once, as soon as there is one; not of seconds, nor of the last phase."""
        last = self.place == len(self.names) - 1
        if left is None or left < _LEAST_SAID or self._said or last:
            return
        self._said = True
        source = self.source or "the speed so far"
        say_passing(f"estimate: about {duration_text(left)} until the command ends, by {source}")

    def _left_here(self, work: Work | None, now: float) -> float | None:
        expected = self._expected(self.current)
        rest = None if expected is None else max(expected - (now - self.began), 0.0)
        measured = None if work is None else work.left(now)
        if measured is None:
            return rest
        if rest is not None and self.current in _OF_MANY_PARTS:
            return max(rest, measured)
        return None if rest is None and self.current in _OF_MANY_PARTS else measured

    def _expected(self, name: str) -> float | None:
        if name in self.seconds:
            return self.seconds[name]
        other, units = self.alike.get(name, ("", 0.0))
        speed = self._speeds.get(other)
        return None if speed is None else speed * units


def current_phases() -> Phases | None:
    """The phases of this process's command."""
    return _PHASES.get()


@contextmanager
def plan_phases(names: Sequence[str]) -> Iterator[None]:
    """Inside this context, phases are numbered among `names`; an outer plan stays.

    Args:
        names: Identifiers among `PHASES`, in order.
    """
    if _PHASES.get() is not None:
        yield
        return
    token = _PHASES.set(Phases(tuple(names)))
    try:
        yield
    finally:
        _PHASES.reset(token)


def enter_phase(name: str) -> None:
    """Go on to a phase of the plan; one that is over, or is not planned, changes nothing."""
    from ws_learner.core.progress_file import current_file

    phases = _PHASES.get()
    if phases is None or not phases.enter(name):
        return
    if (file := current_file()) is not None:
        description = PHASES[name]
        work = Work(description=description, total=0.0)
        file.line("phase", **phase_fields(phases, work, work.began))


def expect_phases(
    seconds: Mapping[str, float],
    *,
    source: str,
    alike: Mapping[str, tuple[str, float]] | None = None,
) -> None:
    """Say what phases of the plan are expected to take, and print the sum if all are known.

    Args:
        seconds: Time of each phase, as far as it is known.
        source: What it comes from, for the message.
        alike: Phases of as many units, each of which takes as long as one of an earlier phase.
    """
    phases = _PHASES.get()
    if phases is None:
        return
    phases.seconds |= seconds
    phases.alike |= alike or {}
    phases.source = source
    phases.announce(phases.left(None, time.monotonic()))


def phase_fields(phases: Phases | None, work: Work, now: float) -> dict[str, object]:
    """The fields of a line of `progress.jsonl` about a piece of work."""
    numbered = phases is not None and phases.place is not None
    return {
        "phase": phases.current if phases is not None else "",
        "number": phases.place + 1 if phases is not None and phases.place is not None else None,
        "phases": len(phases.names) if phases is not None and numbered else None,
        "description": work.description,
        "done": float(work.done),
        "total": float(work.total),
        "elapsed_s": work.elapsed(now),
        "left_s": work.left(now) if work.total else None,
        "command_left_s": None if phases is None else phases.left(work, now),
        "note": work.note,
        "values": work.values,
    }
