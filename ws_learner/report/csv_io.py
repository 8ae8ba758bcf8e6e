"""Exact reading of a run's CSV files, independent of the pandas version."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from ws_learner.core import AnyPath, UserError, as_path, read_text, reading, shown

__all__ = ["DAMAGED_TABLE", "read_frontier", "read_rollouts", "read_tidy"]

DAMAGED_TABLE = (
    "take the file from a copy, or delete it and summary.json and run the same command again"
)
_MOST = 512 << 20


def read_tidy(
    source: Path | io.StringIO, *, text: Collection[str] = (), needs: Collection[str] = ()
) -> pd.DataFrame:
    """Read a CSV file whose columns are numbers, except for those named in `text`.

    A number written by `repr` is read as the same number. A column of whole numbers becomes
    int64, any other float64 with NaN for empty cells. An empty text cell is an empty string.

    Args:
        source: The file.
        text: Columns of text.
        needs: Columns that the table must have, unless it is empty.

    Raises:
        UserError: There is no such file, it is no such table, or a cell of a number column is not
            a number.
    """
    where = str(source) if isinstance(source, Path) else "table"
    if isinstance(source, Path):
        content = read_text(source, where=where, remedy=DAMAGED_TABLE, most=_MOST)
    else:
        content = source.read()
    with reading(where, DAMAGED_TABLE):
        rows = [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if row]
        if not rows:
            return pd.DataFrame()
        header, *body = rows
        if len(set(header)) < len(header):
            raise ValueError("a column appears twice")
        if missing := [name for name in needs if name not in header]:
            raise ValueError(f"no column {missing[0]}")
        for place, row in enumerate(body, 2):
            if len(row) != len(header):
                raise ValueError(f"row {place} has {len(row)} cells instead of {len(header)}")
        cells = dict(zip(header, zip(*body, strict=True), strict=True)) if body else {}
        return pd.DataFrame(
            {name: _column(name, cells.get(name, ()), name in text) for name in header}
        )


def read_rollouts(path: AnyPath) -> pd.DataFrame:
    """Read a run's `rollouts.csv`; `kind` and `failed` are text.

    Raises:
        UserError: It is no such table.
    """
    path = as_path(path)
    needs = ("rollout", "kind", "reward")  # the oldest have no `failed`
    return read_tidy(path, text=("kind", "failed"), needs=needs)


def read_frontier(path: AnyPath) -> pd.DataFrame:
    """Read a run's `frontier.csv`; `supplier` is text.

    Raises:
        UserError: It is no such table.
    """
    path = as_path(path)
    return read_tidy(path, text=("supplier",), needs=("target", "supplier", "reward"))


def _column(name: str, cells: Collection[str], is_text: bool) -> pd.Series:
    if is_text:
        return pd.Series(list(cells), dtype=object)
    try:
        return pd.Series([int(cell) for cell in cells], dtype="int64")
    except (ValueError, OverflowError):
        pass
    try:
        return pd.Series([float(cell) if cell else math.nan for cell in cells], dtype="float64")
    except ValueError as error:
        raise UserError(f"column {shown(name)}: {shown(str(error))}; {DAMAGED_TABLE}") from error
