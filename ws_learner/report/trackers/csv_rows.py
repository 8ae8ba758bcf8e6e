"""Rows of a run's CSV files while they are written."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from ws_learner.core import read_text

__all__ = ["as_number", "numbers", "read_rows"]


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a file, without empty cells; a last line that is being written is left out.

    Raises:
        UserError: The file cannot be read.
    """
    text = read_text(path, where=str(path), remedy="nothing of it is tracked")
    lines = text[: text.rfind("\n") + 1].splitlines()
    for row in csv.DictReader(lines):
        yield {name: cell for name, cell in row.items() if isinstance(name, str) and cell}


def numbers(
    row: Mapping[str, str], *, above: str, leaving: tuple[str, ...] = ()
) -> dict[str, float]:
    """The finite numbers of a row, under names that begin with `above`."""
    found = {name: as_number(cell) for name, cell in row.items() if name not in leaving}
    return {f"{above}{name}": value for name, value in found.items() if value is not None}


def as_number(cell: str | None) -> float | None:
    """A finite number; None if the cell holds none."""
    try:
        value = float(cell or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
