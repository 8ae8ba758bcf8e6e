"""Timed trial: run every candidate in turn on the layer's inputs and keep the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["TimedTrial", "fastest"]

_ROUNDS, _SECONDS = 9, 0.002
_MARGIN = 1.05
_TICK = 1e-9  # some clocks stand still for milliseconds


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


def fastest(runs: Mapping[str, Callable[[], object]], base: str, *, threads: int = 1) -> TimedTrial:
    """Time all `runs` in turn, nine rounds; one must beat `base` by 5 % to replace it.

    The least time of each decides, and with one thread the processor's time: on a busy machine
    long work is interrupted more often than short work, which would flatter whatever is quick.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    repeats = {name: _repeats(run) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(_ROUNDS):
        order = list(runs)[:: 1 if number % 2 else -1]
        for name in order:
            begun = clock()
            for _ in range(repeats[name]):
                runs[name]()
            times[name].append((clock() - begun) / repeats[name])
    seconds = {name: max(min(own), _TICK) for name, own in times.items()}
    gain = {name: seconds[base] / own for name, own in seconds.items()}
    winner = max(gain, key=gain.__getitem__)
    if gain[winner] < _MARGIN:
        winner = base
    return TimedTrial(
        winner=winner, speedup=gain[winner] if winner != base else 1.0, seconds=seconds
    )


def _repeats(run: Callable[[], object]) -> int:
    """Runs that fill two milliseconds; the first calls, which touch new memory, do not count."""
    run()
    begun = time.perf_counter()
    run()
    return min(max(1, int(_SECONDS / max(time.perf_counter() - begun, 1e-7))), 200)
