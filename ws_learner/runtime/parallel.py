"""What generated code shares between calls: memory of each thread, and helpers for its parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from ws_learner.runtime.blocks import aligned

__all__ = ["parts", "run_parts", "scratch"]

_local = threading.local()
_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def scratch(size: int) -> int:
    """Address of this thread's working memory; it grows to the largest kernel's need."""
    held: npt.NDArray[np.uint8] | None = getattr(_local, "memory", None)
    if held is None or held.size < size:
        held = _local.memory = aligned(size)
        _local.address = held.ctypes.data
    address: int = _local.address
    return address


def parts(count: int, threads: int, unit: int) -> Sequence[tuple[int, int]]:
    """Cut 0..count into at most `threads` ranges of whole units."""
    units = -(-count // unit)
    each = -(-units // max(threads, 1)) * unit if units else 1
    return [(i, min(i + each, count)) for i in range(0, count, each)] or [(0, 0)]


def run_parts(work: Callable[[int, int], None], ranges: Sequence[tuple[int, int]]) -> None:
    """Do every range at once, the first one in the calling thread."""
    if len(ranges) == 1:
        work(*ranges[0])
        return
    pool = _pool(len(ranges))
    jobs = [pool.submit(work, *part) for part in ranges[1:]]
    work(*ranges[0])
    for job in jobs:
        job.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    """The helpers of the calling thread, which does one share itself."""
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix="sparse")
        return _pools[threads]
