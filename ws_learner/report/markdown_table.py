"""Markdown tables of text, and names of any origin in Markdown."""

from __future__ import annotations

import re

import pandas as pd

from ws_learner.core import shown

__all__ = ["fenced", "markdown_table", "plain_markdown"]

_MARKS = re.compile(r"[\\`*<>\[\]&~$]|(?<![^\W_])_|_(?![^\W_])")
_MOST = 200


def markdown_table(rows: list[tuple[str, ...]], align: tuple[str, ...]) -> str:
    """A Markdown table; the first row holds the headings. Cells are Markdown."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows[1:]]
    frame = pd.DataFrame(cells, columns=list(rows[0]))
    return str(frame.to_markdown(index=False, disable_numparse=True, colalign=align))


def plain_markdown(name: object) -> str:
    r"""A name as Markdown shows it: its marks, HTML and control characters stand for themselves.

    Example:
        >>> plain_markdown("conv_1.<b>"), plain_markdown("layer1.0.conv1.weight")
        ('conv_1.\\<b\\>', 'layer1.0.conv1.weight')
    """
    return _MARKS.sub(r"\\\g<0>", shown(name, most=_MOST))


def fenced(text: str, kind: str = "") -> str:
    """A block of code that no line of the text ends."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}"
