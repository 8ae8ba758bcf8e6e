"""Milliseconds of calls on a machine that others use, too: rounds in turn, and their median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Timing", "clock_for", "time_runs"]

Clock = Callable[[], float]
_LEAST_CALLS, _MOST_CALLS = 1, 2000
_TICK = 1e-9  # some clocks stand still for a while
_OWN_SHARE = 0.9
_PROBE_SECONDS = 2e-3


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds per call.

    Attributes:
        median_ms: Median of the rounds.
        low_ms: Lower quartile.
        high_ms: Upper quartile.
        rounds: How many there were.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int

    @property
    def spread(self) -> float:
        """Distance of the quartiles over the median."""
        return (self.high_ms - self.low_ms) / self.median_ms


def time_runs(
    runs: Mapping[str, Callable[[], object]],
    *,
    threads: int = 1,
    rounds: int = 9,
    seconds: float = 5e-3,
    clocks: Mapping[str, Clock] | None = None,
) -> dict[str, Timing]:
    """Time all `runs` in turn, every other round in the opposite order.

    A round calls one of them until `seconds` are full. With one thread the processor's time
    counts, which leaves out what the machine gave to others.

    Args:
        runs: Calls without arguments, by name.
        threads: That they use.
        rounds: At least 2.
        seconds: Of a round of one of them.
        clocks: Of each, where they are known; see `clock_for`.
    """
    clocks = clocks or {name: clock_for(run, threads=threads) for name, run in runs.items()}
    calls = {name: _calls(run, clocks[name], seconds) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            run, read, count = runs[name], clocks[name], calls[name]
            begun = read()
            for _ in range(count):
                run()
            times[name].append(max((read() - begun) / count, _TICK))
    return {name: _timing(own) for name, own in times.items()}


def clock_for(run: Callable[[], object], *, threads: int = 1) -> Clock:
    """The clock that tells how long `run` takes: wall time with several threads.

    With one thread that is the time of the calling thread; or of the whole process, if the
    engine works in a thread of its own (OpenVINO may).
    """
    run()  # the first call touches new memory and may start threads
    if threads > 1:
        return time.perf_counter
    own, all_ = time.thread_time(), time.process_time()
    begun = time.perf_counter()
    while True:
        run()
        if time.perf_counter() - begun >= _PROBE_SECONDS:
            break
    own, all_ = time.thread_time() - own, time.process_time() - all_
    return time.thread_time if own >= _OWN_SHARE * all_ else time.process_time


def _calls(run: Callable[[], object], clock: Clock, seconds: float) -> int:
    begun, count = clock(), 0
    while count < _MOST_CALLS:
        run()
        count += 1
        taken = clock() - begun
        if taken >= seconds / 4:
            return min(max(round(seconds * count / taken), _LEAST_CALLS), _MOST_CALLS)
    return _MOST_CALLS


def _timing(times: list[float]) -> Timing:
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return Timing(median_ms=1e3 * middle, low_ms=1e3 * low, high_ms=1e3 * high, rounds=len(times))
