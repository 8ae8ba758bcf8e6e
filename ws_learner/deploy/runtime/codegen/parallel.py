"""Resources of generated code: scratch memory per thread, and Python threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from ws_learner.deploy.runtime.codegen.block_format import aligned

__all__ = ["run_parts", "scratch"]

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


def run_parts(work: Callable[[int], None], count: int) -> None:
    """Do parts 0 up to `count` at once, in threads of Python, the first one in the caller's."""
    jobs = [_pool(count).submit(work, number) for number in range(1, count)]
    try:
        work(0)
    finally:
        while not all(job.done() for job in jobs):  # they still write to the caller's memory
            with suppress(KeyboardInterrupt):
                wait(jobs)
    for job in jobs:
        job.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    """The helpers of the calling thread, which does one share itself."""
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix="sparse")
        return _pools[threads]
