"""Times of single calls that find their weights where a whole network leaves them.

A layer that is called again and again finds its weights in the nearest cache. In a network the
other layers have been there in between. So before each call as much memory is read as the network
has weights; the layer's input is read last, as if the layer before had just written it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

__all__ = ["ColdCall", "least_times"]

_LINE, _WORD = 64, 8
_MOST_BYTES = 64 << 20
_LEAST_CALLS, _MOST_CALLS = 5, 24
_SECONDS = 0.02
_WARM = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class ColdCall:
    """A call and the memory that is read before.

    Attributes:
        run: The call.
        bytes_before: How much is read, of 64 MiB at most.
    """

    run: Callable[[], object]
    bytes_before: int


def least_times(calls: Mapping[str, ColdCall], sample: Tensor, *, threads: int) -> dict[str, float]:
    """Milliseconds of each call, the lower quartile of several in turn.

    Args:
        calls: By name.
        sample: Their common input.
        threads: That they use; with one, the thread's own time counts.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    most = max(call.bytes_before for call in calls.values())
    memory = np.zeros(min(most, _MOST_BYTES) // _WORD + 1, np.int64)
    own = sample.detach().reshape(-1)
    times: dict[str, list[float]] = {name: [] for name in calls}
    empty: list[float] = []

    def timed(call: ColdCall) -> float:
        np.add.reduce(memory[: call.bytes_before // _WORD + 1 : _LINE // _WORD])
        float(own.sum())
        begun = clock()
        call.run()
        return clock() - begun

    for _ in range(_WARM):
        first = {name: timed(call) for name, call in calls.items()}
    count = int(min(max(_SECONDS / max(sum(first.values()), 1e-9), _LEAST_CALLS), _MOST_CALLS))
    for number in range(count):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            times[name].append(timed(calls[name]))
        begun = clock()
        empty.append(clock() - begun)
    clock_itself = float(np.median(empty))
    return {
        name: 1e3 * max(float(np.quantile(taken, 0.25)) - clock_itself, 1e-8)
        for name, taken in times.items()
    }
