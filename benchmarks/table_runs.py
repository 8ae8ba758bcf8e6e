"""Runs the cells of a table: side by side, one thread each; a stopped run goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.ablation_jobs import one_thread_each, run_jobs
from benchmarks.search_tasks import load_search_task
from benchmarks.table_cells import Cell, cell_row

__all__ = ["commit", "run_cells"]

_ROOT = Path(__file__).parents[1]


def run_cells(cells: Sequence[Cell], *, table: Path, jobs: int) -> pd.DataFrame:
    """Run the cells that the table lacks, in their order; return the rows of all of them.

    Args:
        cells: The cells.
        table: CSV file, rewritten after every cell.
        jobs: Processes, one thread each.
    """
    one_thread_each()
    for network in sorted({cell.network for cell in cells}):
        load_search_task(network)  # a first download, before processes need it side by side
    return run_jobs(cell_row, cells, table=table, workers=jobs)


def commit() -> str:
    """Short name of the commit of this checkout, with + if files differ; empty without git."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{head}+" if changed else head


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=_ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()
