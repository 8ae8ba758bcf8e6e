"""Time two pieces of work side by side in one process, so that only their ratio matters.

A shared machine's speed drifts; a ratio of two neighbouring timings does not. Each round times
both once, and every other round in the opposite order, so that neither always runs first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["PairedResult", "paired"]


@dataclass(frozen=True, kw_only=True)
class PairedResult:
    """How many times longer `a` takes than `b`: a ratio without a unit.

    Attributes:
        median: Median of the pairwise ratios.
        low: Their lower quartile.
        high: Their upper quartile.
        ratios: Every pairwise ratio, in the order measured.
    """

    median: float
    low: float
    high: float
    ratios: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.median:.3f} (quartiles {self.low:.3f} to {self.high:.3f})"


def paired(
    a: Callable[[], object],
    b: Callable[[], object],
    *,
    rounds: int = 20,
    warmup: int = 2,
    synchronize: Callable[[], object] | None = None,
    clock: Callable[[], float] | None = None,
) -> PairedResult:
    """Measure time(a) / time(b) pair by pair: A B, B A, A B, ...

    Args:
        a: The work in question.
        b: The work it is compared with.
        rounds: Pairs measured, at least 2.
        warmup: Pairs run before and not counted.
        synchronize: Called before each reading of the clock; on a GPU, its synchronize function.
        clock: Reads seconds; `time.perf_counter` by default. `time.thread_time` leaves out what a
            busy machine gives to others, for work of one thread.

    Raises:
        ValueError: Fewer than two rounds, or a negative warm-up.
    """
    if rounds < 2 or warmup < 0:
        raise ValueError(f"rounds {rounds} must be at least 2 and warmup {warmup} at least 0")

    read = clock or time.perf_counter

    def seconds(work: Callable[[], object]) -> float:
        if synchronize:
            synchronize()
        start = read()
        work()
        if synchronize:
            synchronize()
        return read() - start

    ratios = []
    for number in range(warmup + rounds):
        if number % 2:
            second, first = seconds(b), seconds(a)
        else:
            first, second = seconds(a), seconds(b)
        if number >= warmup:
            ratios.append(first / second)
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return PairedResult(median=median, low=low, high=high, ratios=tuple(ratios))
