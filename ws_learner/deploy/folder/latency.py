"""Milliseconds of one call, the one place where a deploy folder's network is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["median_ms"]

_WARM_UP, _LEAST, _MOST, _SECONDS = 3, 20, 200, 1.0


def median_ms(run: Callable[[], object], *, threads: int, own_threads: bool) -> dict[str, object]:
    """Time calls for about a second; return median and quartiles in milliseconds.

    Args:
        run: One call.
        threads: That the engine uses. With one thread the processor's time counts, which other
            programs on the machine disturb little; with several, the time on the wall.
        own_threads: The engine computes in threads of its own even if it uses one, so that only
            the time on the wall tells.
    """
    wall = threads > 1 or own_threads
    clock = time.perf_counter if wall else time.thread_time
    for _ in range(_WARM_UP):
        run()
    found: list[float] = []
    begun = time.monotonic()
    while len(found) < _LEAST or (len(found) < _MOST and time.monotonic() - begun < _SECONDS):
        start = clock()
        run()
        found.append(1000 * (clock() - start))
    low, middle, high = statistics.quantiles(found, n=4)
    return {
        "median": round(middle, 4),
        "quartiles": [round(low, 4), round(high, 4)],
        "runs": len(found),
        "clock": "wall" if wall else "processor",
    }
