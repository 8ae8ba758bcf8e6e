"""Exact reading of a run's CSV files, independent of the pandas version."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from ws_learner.core import AnyPath, UserError, as_path

__all__ = ["read_frontier", "read_rollouts", "read_tidy"]


def read_tidy(source: Path | io.StringIO, *, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a CSV file whose columns are numbers, except for those named in `text`.

    A number written by `repr` is read as the same number. A column of whole numbers becomes
    int64, any other float64 with NaN for empty cells. An empty text cell is an empty string.

    Raises:
        UserError: There is no such file, or it is no text.
        ValueError: A cell of a number column is not a number.
    """
    try:
        content = source.read_text(encoding="utf-8") if isinstance(source, Path) else source.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        raise UserError(f"{source}: cannot be read ({reason})") from error
    rows = list(csv.reader(io.StringIO(content)))
    if not rows:
        return pd.DataFrame()
    cells = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True)) if rows[1:] else {}
    return pd.DataFrame(
        {name: _column(name, cells.get(name, ()), name in text) for name in rows[0]}
    )


def read_rollouts(path: AnyPath) -> pd.DataFrame:
    """Read a run's `rollouts.csv`; `kind` and `failed` are text."""
    path = as_path(path)
    return read_tidy(path, text=("kind", "failed"))


def read_frontier(path: AnyPath) -> pd.DataFrame:
    """Read a run's `frontier.csv`; `supplier` is text."""
    path = as_path(path)
    return read_tidy(path, text=("supplier",))


def _column(name: str, cells: Collection[str], is_text: bool) -> pd.Series:
    if is_text:
        return pd.Series(list(cells), dtype=object)
    try:
        return pd.Series([int(cell) for cell in cells], dtype="int64")
    except ValueError:
        pass
    try:
        return pd.Series([float(cell) if cell else math.nan for cell in cells], dtype="float64")
    except ValueError as error:
        raise ValueError(f"column {name}: {error}") from error
