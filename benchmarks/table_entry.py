"""An entry of the list of all tables."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QUICK", "RESULTS", "Table"]

QUICK = "runs/quick"
"""Folder of everything that small versions write."""

RESULTS = "experiments/results"
"""Folder of what was recorded."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, or a group of figures that one command measures.

    Attributes:
        name: Short name, for `--only`.
        shows: What it shows.
        command: The whole command, from the project's folder.
        result: File or folder of what was recorded, from the project's folder; empty if the
            figures stand on the page alone.
        page: Document that quotes it.
        quick: Words after `python -m` of the small version; empty if there is none.
        why: Why there is no small version.
        needs: Table whose small version it reads.
        limit: It exits with 1 if a limit is missed, which on a busy machine is no failure.
        made: Machine and time of what was recorded.
    """

    name: str
    shows: str
    command: str
    result: str = ""
    page: str = ""
    quick: str = ""
    why: str = ""
    needs: str = ""
    limit: bool = False
    made: str = ""
