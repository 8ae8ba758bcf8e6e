"""Summary of a run on standard output: coloured on a terminal, plain aligned text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ws_learner.report.headlines import (
    layer_rows,
    result_rows,
    table_align,
    table_heads,
    title,
    total_row,
)

__all__ = ["plain_summary", "print_summary"]


def print_summary(summary: Mapping[str, Any], frame: pd.DataFrame | None = None) -> None:
    """Print the layers with chosen and achieved ratios, totals, accuracies and times.

    Args:
        summary: The content of `summary.json`; missing keys are skipped.
        frame: The ratio table, or None for a run without one.
    """
    if sys.stdout.isatty():
        _print_rich(summary, frame)
    else:
        sys.stdout.write(plain_summary(summary, frame))
        sys.stdout.flush()


def plain_summary(summary: Mapping[str, Any], frame: pd.DataFrame | None = None) -> str:
    """Return the summary as text without colours or box characters."""
    from tabulate import tabulate

    blocks = [title(summary)]
    if frame is not None:
        rows, align = [table_heads(frame), *layer_rows(frame), total_row(frame)], table_align(frame)
        blocks.append(tabulate(rows, tablefmt="plain", colalign=align, disable_numparse=True))
    results = result_rows(summary, frame)
    if results:
        blocks.append(
            tabulate(results, tablefmt="plain", colalign=("left", "right"), disable_numparse=True)
        )
    return "\n\n".join(blocks) + "\n"


def _print_rich(summary: Mapping[str, Any], frame: pd.DataFrame | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print()
    console.print(Text(title(summary), style="bold"))
    if frame is not None:
        layers = Table(show_footer=True, header_style="bold", footer_style="bold")
        heads = zip(table_heads(frame), table_align(frame), total_row(frame), strict=True)
        for head, align, foot in heads:
            justify = "left" if align == "left" else "right"
            layers.add_column(head, foot, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for row in layer_rows(frame):
            layers.add_row(*map(Text, row))
        console.print(layers)
    results = Table(show_header=False, box=None)
    results.add_column(style="bold")
    results.add_column(justify="right")
    for label, value in result_rows(summary, frame):
        results.add_row(Text(label), Text(value))
    console.print(results)
