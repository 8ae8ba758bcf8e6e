"""The driver's progress while ranks train: rank 0's `metrics.csv` says how far they are."""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ws_learner.core import Progress, track

__all__ = ["followed", "last_row"]

_SECONDS = 2.0
_TAIL = 1 << 14  # bytes; a row is much shorter


@contextmanager
def followed(metrics: Path, *, name: str, phase: str | None, total: int) -> Iterator[None]:
    """Write the ranks' progress to the run's `progress.jsonl` inside this context.

    Nothing is shown: rank 0 shows its own progress.

    Args:
        metrics: The file that rank 0 appends to, on storage that this machine sees.
        name: Of the training in the file.
        phase: Of the command.
        total: Steps.
    """
    ended = threading.Event()
    title = f"{name} training"
    with track(title, total=total, phase=phase, shown=False, resumes=True) as progress:
        watch = threading.Thread(
            target=_watch, args=(metrics, name, progress, ended), name="progress", daemon=True
        )
        watch.start()
        try:
            yield
        finally:
            ended.set()
            watch.join()


def _watch(metrics: Path, name: str, progress: Progress, ended: threading.Event) -> None:
    first = known = last_row(metrics, name)[0]
    progress.start_from(known)
    while True:
        over = ended.wait(_SECONDS)
        step, loss = last_row(metrics, name)
        if step > known == first:
            progress.start_from(step)  # the ranks have begun; their start is no part of the speed
            known = step
        elif step > known:
            note = None if loss is None else f"loss {loss:.3f}"
            progress.advance(step - known, note=note, values={"loss": loss} if loss else None)
            known = step
        if over:
            return


def last_row(metrics: Path, name: str) -> tuple[int, float | None]:
    """The last step of a training in `metrics.csv` and its loss; 0 where there is none."""
    try:
        with metrics.open("rb") as file:
            head = file.readline().decode()
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL, len(head)))
            tail = file.read().decode(errors="replace").splitlines()
    except OSError:
        return 0, None
    step, loss = 0, None
    columns = next(csv.reader([head]), [])
    for values in csv.reader(tail):
        row = dict(zip(columns, values, strict=False))
        if row.get("phase") != name or len(values) != len(columns):
            continue
        try:
            step = int(float(row["step"]))
            loss = float(row["train/loss"]) if row.get("train/loss") else loss
        except (KeyError, ValueError):  # half a row
            continue
    return step, loss
