"""Independent pieces of work in processes of their own, such as many trainings on one GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["side_by_side"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int
) -> Iterator[tuple[Item, Result | Exception]]:
    """Do `work` on each item, `jobs` at a time; what is done comes at once, in any order.

    An item that fails hands over its exception, and the others go on.

    Args:
        work: A function of a module, so that a spawned process can find it.
        items: Things that can be pickled.
        jobs: Processes; 1 does the work in this one.
    """
    if jobs == 1:
        for item in items:
            yield item, _tried(work, item)
        return
    workers = min(jobs, max(len(items), 1))
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(workers,)
    ) as pool:
        running = {pool.submit(_tried, work, item): item for item in items}
        for done in as_completed(running):
            yield running[done], done.result()


def _tried(work: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return work(item)
    except Exception as error:
        return error


def _begin(workers: int) -> None:
    """Share the cores; progress is the parent's to show."""
    threads = max((os.cpu_count() or 1) // workers, 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for as long as the process lives
