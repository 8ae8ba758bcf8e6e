"""Many independent jobs side by side: a process each, a result file each, so calls go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ws_learner.files import write_json
from ws_learner.progress import track

__all__ = ["run_missing"]


def run_missing(
    work: Callable[..., Mapping[str, Any]],
    jobs: Mapping[str, Sequence[Any]],
    *,
    out: Path,
    processes: int,
    title: str,
) -> None:
    """Call `work(*arguments)` for every job that has no file in `out` yet.

    Args:
        work: A function of a module (processes are spawned); what it returns becomes JSON.
        jobs: File name without ending -> arguments, in the order in which they start.
        out: Folder of the results; each file is written as soon as its job is done.
        processes: At most so many at once; each computes on one CPU thread.
        title: Of the progress bar.
    """
    out.mkdir(parents=True, exist_ok=True)
    missing = {name: args for name, args in jobs.items() if not (out / f"{name}.json").exists()}
    if not missing:
        return
    pool = ProcessPoolExecutor(
        min(processes, len(missing)), get_context("spawn"), initializer=_quietly
    )
    done = len(jobs) - len(missing)
    with pool, track(title, total=len(jobs), done=done) as progress:
        running = {pool.submit(work, *args): name for name, args in missing.items()}
        for future in as_completed(running):
            write_json(out / f"{running[future]}.json", dict(future.result()))
            progress.advance(note=running[future])


def _quietly() -> None:
    """One thread, and no progress bars between those of the others."""
    import sys

    import torch

    torch.set_num_threads(1)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
