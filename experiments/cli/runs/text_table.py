"""Tables of text that fit a terminal. Free of pandas and torch."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from ws_learner.core import shown

__all__ = ["fitting", "terminal_width", "text_table"]

_GAP = 2


def terminal_width() -> int | None:
    """Columns of the terminal; None if standard output is none, which needs no limit."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None


def text_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[bool] = ()
) -> str:
    """Columns of text, two spaces apart; those in `right` are aligned to the right."""
    lines = [heads, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
    aligned = (
        (" " * _GAP)
        .join(
            cell.rjust(width) if place < len(right) and right[place] else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        .rstrip()
        for line in lines
    )
    return "\n".join(aligned) + "\n"


def fitting(
    columns: Sequence[tuple[str, Sequence[str]]],
    *,
    drops: Sequence[str],
    width: int | None,
    least: int = 20,
) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Columns that fit a width; first the first one is shortened, then others are left out.

    Args:
        columns: Head and cells of each.
        drops: Heads that may be left out, the first of them first.
        width: None fits everything.
        least: The first column is not made narrower than this.

    Returns:
        The columns, and the heads left out. Columns without any text are left out silently.
    """
    kept = [(head, list(cells)) for head, cells in columns if any(cells) or head == columns[0][0]]
    left_out: list[str] = []
    for head in (*drops, None):
        first, *others = (_wide(*column) for column in kept)
        free = (width or 10**9) - sum(others) - _GAP * len(others)
        if free >= min(first, least) or head is None:
            kept[0] = (kept[0][0], [shown(cell, most=max(free, 5)) for cell in kept[0][1]])
            break
        if any(name == head for name, _ in kept):
            kept = [column for column in kept if column[0] != head]
            left_out.append(head)
    return kept, left_out


def _wide(head: str, cells: Sequence[str]) -> int:
    return max(len(head), *(len(cell) for cell in cells)) if cells else len(head)
