"""Markdown of an accuracy table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.paired_differences import paired_differences
from ws_learner.core import write_text

__all__ = ["write_report"]


def write_report(folder: Path, *, command: str) -> str:
    """Write README.md beside rows.csv, and return its text."""
    rows = pd.read_csv(folder / "rows.csv").rename(columns={"protocol": "name"})
    table = paired_differences(rows, "accuracy", reference="optimal")
    text = f"    {command}\n\n{table.to_markdown(index=False)}\n"
    write_text(folder / "README.md", text)
    return text
