"""Jobs side by side, one thread each; a table of their rows from which a stopped run goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd

from ws_learner.core import say, track, write_text

__all__ = ["Row", "one_thread_each", "run_jobs"]

Row = dict[str, Any]


class Job(Protocol):
    """Something to do, known by its name."""

    @property
    def name(self) -> str:
        """Name that no other job of the table has."""


J = TypeVar("J", bound=Job)


def one_thread_each() -> None:
    """Let processes started from now on compute on one thread."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def run_jobs(
    work: Callable[[J], list[Row]], jobs: Sequence[J], *, table: Path, workers: int
) -> pd.DataFrame:
    """Do the jobs whose rows the table lacks; return the rows of all these jobs.

    A job that fails is named and left out, so that another call does it again.

    Args:
        work: Does a job and returns its rows; importable from its module.
        jobs: The jobs.
        table: CSV file, rewritten after every job.
        workers: Processes.
    """
    rows: list[Any] = pd.read_csv(table).to_dict("records") if table.exists() else []
    known = {row["job"] for row in rows}
    open_ = [job for job in jobs if job.name not in known]
    with (
        ProcessPoolExecutor(workers, get_context("spawn"), initializer=_quiet) as pool,
        track(table.stem, total=len(jobs), done=len(jobs) - len(open_)) as progress,
    ):
        running = {pool.submit(work, job): job for job in open_}
        for future in as_completed(running):
            job = running[future]
            try:
                found = future.result()
            except Exception as error:  # hours of other jobs are worth more
                say(f"{job.name}: failed, {type(error).__name__}: {error}")
                continue
            rows += [{"job": job.name, "part": table.stem} | row for row in found]
            table.parent.mkdir(parents=True, exist_ok=True)
            write_text(table, pd.DataFrame(rows).to_csv(index=False))
            progress.advance(note=job.name)
    names = {job.name for job in jobs}
    return pd.DataFrame([row for row in rows if row["job"] in names])


def _quiet() -> None:
    import torch

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
