"""All tables that the documents quote, and the page that lists them, `docs/tables.md`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.table_entry import Table
from benchmarks.tables_of_accuracy import ACCURACY
from benchmarks.tables_of_patterns import PATTERNS
from benchmarks.tables_of_speed import SPEED

__all__ = ["TABLES", "page"]

_GROUPS = {
    "Accuracy, rewards, searches": ACCURACY,
    "Patterns and methods": PATTERNS,
    "Speed, memory, scaling, language models": SPEED,
}
TABLES: tuple[Table, ...] = tuple(table for group in _GROUPS.values() for table in group)
"""All of them, in the order of the page."""

_ROOT = Path(__file__).parents[1]
_HEAD = """\
# All tables

What each table shows, the command that makes it, where its rows lie, and the page that quotes it.
Commands that train or search resume where a stopped call ended.

    python -m benchmarks.all --quick                  # a small version of each, in turn
    python -m benchmarks.all --quick --only accuracy  # of one
    python -m benchmarks.all --list                   # this page

A small version shows that a command works; its figures mean nothing. It writes to `runs/quick`.
"""


def page() -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for title, tables in _GROUPS.items():
        parts.append(f"## {title}\n\n" + "\n".join(_rows(tables)) + "\n")
    return "\n".join(parts)


def _rows(tables: Sequence[Table]) -> Iterator[str]:
    yield "| name | shows | command | rows | quoted in | small version | machine, time |"
    yield "|---|---|---|---|---|---|---|"
    for table in tables:
        small = f"`python -m {table.quick}`" if table.quick else f"none: {table.why}"
        yield (
            f"| {table.name} | {table.shows} | `{table.command}` | {_result(table)} "
            f"| {_link(table.page)} | {small} | {table.made or 'on the page'} |"
        )


def _result(table: Table) -> str:
    if not table.result:
        return "on the page"
    return _link(table.result) if (_ROOT / table.result).exists() else "not run yet"


def _link(path: str) -> str:
    if not path:
        return ""
    name = Path(path).parent.name if Path(path).name == "README.md" else Path(path).stem
    return f"[{name or 'README'}]({os.path.relpath(path, 'docs')})"
