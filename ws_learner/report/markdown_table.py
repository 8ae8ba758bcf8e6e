"""Markdown tables of text."""

from __future__ import annotations

import pandas as pd

__all__ = ["markdown_table"]


def markdown_table(rows: list[tuple[str, ...]], align: tuple[str, ...]) -> str:
    """A Markdown table; the first row holds the headings. Cells are text, printed unchanged."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows[1:]]
    frame = pd.DataFrame(cells, columns=list(rows[0]))
    return str(frame.to_markdown(index=False, disable_numparse=True, colalign=align))
