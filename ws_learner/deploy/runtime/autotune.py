"""Timed trial: run every candidate in turn on the layer's inputs and keep the fastest."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["Repeatable", "TimedTrial", "fastest"]

_ROUNDS, _LEAST_ROUNDS, _FAIR_ROUNDS = 25, 3, 8
_SLICE = 1e-4  # seconds of one reading: most of them fall between two interruptions
_LONG = 1e-3  # what takes so long fills the caches itself
_MOST = 0.1  # seconds spent on one candidate, after three readings
_BEHIND = {False: 4.0, True: 1.5}  # times the best's: out of the race, before and after fair rounds
_MARGIN = 1.05
_TICK = 1e-9  # some clocks stand still for milliseconds
_KEPT = 0.1  # of a reading, at least, is the work's own


@runtime_checkable
class Repeatable(Protocol):
    """A candidate that runs several times in one native call."""

    def repeat(self, times: int) -> None:
        """Run `times` times."""


@dataclass(frozen=True, kw_only=True)
class TimedTrial:
    """Result of a timed trial.

    Attributes:
        winner: Name of the chosen one.
        speedup: Times faster than the base; 1 if the base won.
        seconds: Least time of each.
    """

    winner: str
    speedup: float
    seconds: dict[str, float]


def fastest(
    runs: Mapping[str, Callable[[], object]],
    base: str,
    *,
    threads: int = 1,
    idle: Callable[[], object] | None = None,
    reach: Callable[[], object] | None = None,
) -> TimedTrial:
    """Time all `runs` in turn; one must beat `base` by 5 % to replace it.

    Of those within 5 % of the fastest, the base wins, or else the first: a clock does not decide
    between equals. The least of many short readings counts, each after an untimed run that fetches
    the candidate's own weights, and with one thread the processor's time: what a busy machine takes
    away and what it leaves cold then meets every candidate alike.

    Args:
        runs: By name, in order of preference. A `Repeatable` one is timed in its native loop.
        base: Name of the one in place.
        threads: That they use.
        idle: Calls what Python calls without any work; its time is taken off every run that is
            not `Repeatable`.
        reach: Calls what Python calls around a `Repeatable` run, without any work; what it takes
            beyond `idle` is added to all of these, alike.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    loops = {name: _Loop(run, clock) for name, run in runs.items()}
    racing = list(loops)
    for number in range(_ROUNDS):
        for name in racing[:: 1 if number % 2 else -1]:
            loops[name].read()
        racing = [name for name in racing if loops[name].spent < _MOST]
        if number + 1 >= _LEAST_ROUNDS:
            best = min(loop.least for loop in loops.values())
            most = _BEHIND[number + 1 >= _FAIR_ROUNDS] * best
            racing = [name for name in racing if loops[name].least <= most]
    waiting, reaching = (_idle_seconds(run, clock) for run in (idle, reach))
    handover = max(reaching - waiting, 0.0)
    seconds = {
        name: max(
            loop.least + handover if loop.native else max(loop.least - waiting, _KEPT * loop.least),
            _TICK,
        )
        for name, loop in loops.items()
    }
    return _judged(seconds, base)


def _judged(seconds: dict[str, float], base: str) -> TimedTrial:
    best = min(seconds.values())
    winner = base if seconds[base] < best * _MARGIN else ""
    winner = winner or next(name for name, own in seconds.items() if own < best * _MARGIN)
    gain = 1.0 if winner == base else seconds[base] / seconds[winner]
    return TimedTrial(winner=winner, speedup=gain, seconds=seconds)


class _Loop:
    """Readings of one candidate."""

    def __init__(self, run: Callable[[], object], clock: Callable[[], float]) -> None:
        self.native = isinstance(run, Repeatable)
        self._clock = clock
        self._run = run.repeat if isinstance(run, Repeatable) else _repeated(run)
        self._run(1)  # touches new memory
        looks = [self._seconds(1) for _ in range(2)]  # a single one could meet an interruption
        one = min(looks)
        self._times = min(max(1, int(_SLICE / max(one, 1e-7))), 1000)
        self._warm = one < _LONG
        self.least, self.spent = (float("inf"), 0.0) if self._warm else (one, sum(looks))

    def read(self) -> None:
        """Take one reading."""
        if self._warm:
            self._run(1)
        found = self._seconds(self._times)
        self.spent += found
        self.least = min(self.least, found / self._times)

    def _seconds(self, times: int) -> float:
        begun = self._clock()
        self._run(times)
        return self._clock() - begun


def _repeated(run: Callable[[], object]) -> Callable[[int], None]:
    def loop(times: int) -> None:
        for _ in itertools.repeat(None, times):
            run()

    return loop


def _idle_seconds(idle: Callable[[], object] | None, clock: Callable[[], float]) -> float:
    """Least time of a call that does nothing; 0 where nothing is not allowed."""
    if idle is None:
        return 0.0
    try:
        loop = _Loop(idle, clock)
        for _ in range(_LEAST_ROUNDS):
            loop.read()
    except (RuntimeError, ValueError, IndexError):
        return 0.0
    return loop.least
