"""Training log `metrics.csv`: one row per logged step, one column per documented scalar."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ws_learner.core import (
    AnyPath,
    UserError,
    as_path,
    read_text,
    reading,
    shown,
    suggest,
    write_text,
)
from ws_learner.report.csv_io import read_tidy

__all__ = ["SCALARS", "MetricsLog", "read_metrics"]

_KEYS = ("step", "epoch", "phase")
_AWAY = "move it away and run again"
_MOST = 512 << 20

SCALARS: Mapping[str, str] = {
    "train/loss": "mean training loss per example since the last row, in nats; with distillation "
    "it includes the weighted distillation term",
    "train/task_loss": "the part of train/loss that comes from the labels, in nats",
    "train/dst_loss": "the distillation term before its weight `loss_w_dst`, in nats",
    "train/penalty": "the method's penalty as added to the loss",
    "train/lr": "learning rate of the last step",
    "train/accuracy": "share of training examples answered right since the last row, augmented",
    "train/grad_norm": "2-norm of the gradient at the last step",
    "prune/planned": "overall prune ratio the schedule asks for at this step, in [0, 1]",
    "prune/ratio": "overall share of zero weights counted in the network, in [0, 1]; where "
    "prune/planned is missing, the planned share",
    "prune/threshold": "score below which movement prunes at this step",
    "prune/factor": "factor of movement's penalty at this step",
    "search/accuracy": "share of the search images answered right, in [0, 1]",
    "search/loss": "mean loss on the search images, in nats",
    "select/accuracy": "share of the select images answered right, in [0, 1]",
    "select/metric": "the run's metric on the select split, in its own unit",
    "select/loss": "mean loss on the select images, in nats",
    "test/accuracy": "share of the test images answered right, in [0, 1]; read once, at the end",
    "test/loss": "mean loss on the test images, in nats; read once, at the end",
}
"""Every scalar that may be logged, with its meaning. Add a new scalar here first."""


class MetricsLog:
    """Writer of `metrics.csv`: fixed column order, empty cells for missing values.

    A logged row is appended. The whole file is rewritten, atomically, only when a column is new or
    rows are removed. A line truncated by a crash is dropped when the log is opened again.
    """

    def __init__(self, path: AnyPath) -> None:
        """Open the log; rows are added to an existing file.

        Raises:
            UserError: The existing file is not such a log, or cannot be read or written.
        """
        path = as_path(path)
        self.path = path
        self._rows, whole = _read(path) if path.exists() else ([], True)
        self._columns = _columns(self._rows)
        if not whole:
            self._rewrite()

    def log(self, row: Mapping[str, float | int | str | None]) -> None:
        """Add one row.

        Args:
            row: `step` (int), optionally `epoch` and `phase`; all other keys are
                names from `SCALARS`. None and NaN leave the cell empty.

        Raises:
            ValueError: `step` is missing or a name is not documented.
            UserError: The disk is full.
        """
        if "step" not in row:
            raise ValueError("a row of metrics needs the key `step`")
        for name in row:
            if name not in _KEYS and name not in SCALARS:
                raise ValueError(f"scalar {name!r} is not documented; {suggest(name, SCALARS)}")
        cells = {name: text for name, value in row.items() if (text := _text(value))}
        self._rows.append(cells)
        if set(cells) <= set(self._columns) and self.path.exists():
            self._append(cells)
        else:
            self._rewrite()

    def truncate_after(self, step: int, *, phase: str | None = None) -> None:
        """Remove the rows that a resumed run will write again.

        Args:
            step: The last step whose row is kept.
            phase: If given, `step` counts within this phase: rows before the phase are kept, all
                rows after it are removed.
        """
        begin = 0
        if phase is not None:
            starts = (i for i, row in enumerate(self._rows) if row.get("phase") == phase)
            begin = next(starts, len(self._rows))
        kept = self._rows[:begin] + [
            row
            for row in self._rows[begin:]
            if int(row["step"]) <= step and phase in (None, row.get("phase"))
        ]
        if len(kept) != len(self._rows):
            self._rows = kept
            self._rewrite()

    def frame(self) -> pd.DataFrame:
        """All rows, as returned by `read_metrics`."""
        return read_tidy(io.StringIO(_csv(self._columns, self._rows)), text=("phase",))

    def _append(self, cells: Mapping[str, str]) -> None:
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(_line(self._columns, cells))
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror or error}; "
                "free space, then run the same command again"
            ) from error

    def _rewrite(self) -> None:
        self._columns = _columns(self._rows)
        write_text(self.path, _csv(self._columns, self._rows))


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a `metrics.csv`: numbers with NaN for empty cells, phase as text."""
    return read_tidy(path, text=("phase",), needs=_KEYS)


def _columns(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Columns in use, in the order of `_KEYS` and `SCALARS`, whatever the order of rows."""
    used = {name for row in rows for name in row}
    return [*_KEYS, *(name for name in SCALARS if name in used)]


def _text(value: float | int | str | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # float() first, so that NumPy numbers and other subclasses print as plain digits.
    return repr(float(value)) if isinstance(value, float) else str(value)


def _line(columns: Iterable[str], cells: Mapping[str, str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([cells.get(name, "") for name in columns])
    return buffer.getvalue()


def _csv(columns: list[str], rows: Iterable[Mapping[str, str]]) -> str:
    header = _line(columns, {name: name for name in columns})
    return header + "".join(_line(columns, row) for row in rows)


def _read(path: Path) -> tuple[list[dict[str, str]], bool]:
    """Rows of an existing log, and whether its last line is complete."""
    text = read_text(path, where=str(path), remedy=_AWAY, most=_MOST)
    complete = text[: text.rfind("\n") + 1]
    with reading(path, _AWAY):
        header, *lines = [row for row in csv.reader(io.StringIO(complete)) if row] or [list(_KEYS)]
        rows = [
            {name: cell for name, cell in zip(header, line, strict=True) if cell} for line in lines
        ]
        columns = header
        if "step" in columns:
            for row in rows:
                int(row["step"])
    unknown = [name for name in columns if name not in _KEYS and name not in SCALARS]
    if unknown or "step" not in columns:
        raise UserError(
            f"{path} is not a metrics log (columns {shown(', '.join(columns))}); {_AWAY}"
        )
    return rows, bool(complete) and complete == text
