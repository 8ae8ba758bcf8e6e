"""Run independent jobs in separate processes, such as many trainings on one GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from ws_learner.core import track, write_json

__all__ = ["run_missing", "side_by_side"]

Item = TypeVar("Item")
ProcessResult = TypeVar("ProcessResult")


def side_by_side(
    work: Callable[[Item], ProcessResult], items: Sequence[Item], *, jobs: int
) -> Iterator[tuple[Item, ProcessResult | Exception]]:
    """Do `work` on each item, `jobs` at a time; what is done comes at once, in any order.

    An item that fails returns its exception, and the others continue.

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


def run_missing(
    work: Callable[..., Mapping[str, Any]],
    pieces: Mapping[str, Sequence[Any]],
    *,
    out: Path,
    jobs: int,
    title: str,
) -> None:
    """Call `work(*arguments)` for every piece that has no file in `out` yet.

    Args:
        work: A function of a module; what it returns becomes JSON.
        pieces: File name without ending -> arguments, in the order in which they start.
        out: Folder of the results; each file is written as soon as its piece is done.
        jobs: Processes.
        title: Of the progress bar.

    Raises:
        Exception: What the first piece that failed raised, after all others were done.
    """
    out.mkdir(parents=True, exist_ok=True)
    missing = [(name, args) for name, args in pieces.items() if not _path(out, name).exists()]
    failed = []
    with track(title, total=len(pieces), done=len(pieces) - len(missing)) as progress:
        for (name, _), found in side_by_side(partial(_call, work), missing, jobs=jobs):
            if isinstance(found, Exception):
                failed.append(found)
            else:
                write_json(_path(out, name), dict(found))
            progress.advance(note=name)
    if failed:
        raise failed[0]


def _path(out: Path, name: str) -> Path:
    return out / f"{name}.json"


def _call(work: Callable[..., ProcessResult], piece: tuple[str, Sequence[Any]]) -> ProcessResult:
    return work(*piece[1])


def _tried(work: Callable[[Item], ProcessResult], item: Item) -> ProcessResult | Exception:
    try:
        return work(item)
    except Exception as error:
        return error


def _begin(workers: int) -> None:
    """Share the cores; progress is the parent's to show."""
    threads = max((os.cpu_count() or 1) // workers, 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for as long as the process lives
    Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this process when its parent ends, for any reason."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
