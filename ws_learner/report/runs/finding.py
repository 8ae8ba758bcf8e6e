"""Find a run by its path, its name, the beginning of its folder's name, or as the last one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from ws_learner.core import AnyPath, UserError, as_path, shown
from ws_learner.report.runs.listing import list_runs
from ws_learner.report.runs.row import RunRow

__all__ = ["LAST", "find_run"]

LAST = "last"
"""The newest run of the folder."""

_FILES = {".safetensors", ".pt", ".pth", ".wsr"}


def find_run(given: AnyPath, *, folder: AnyPath = "runs", name: str = "run") -> Path:
    """The run that somebody means.

    Args:
        given: In this order: a path that exists; `last`, the run of the folder that
            began last; the name of a run (`--name`); a folder's name, or its beginning, if that
            fits one run.
        folder: Where runs are looked up.
        name: Of the argument, for messages.

    Raises:
        UserError: No run is meant, or more than one.
    """
    path, word = as_path(given, name=name), str(given)
    if path.exists():
        return path
    if os.sep in word:
        raise UserError(f"`{name}` {shown(word)}: {_not_there(path)}")
    place = as_path(folder, name="folder")
    rows = list_runs(place)
    if word == LAST and rows:
        return rows[0].path
    for found in (
        [row for row in rows if row.name and row.name == word],
        [row for row in rows if row.path.name == word],
        [row for row in rows if row.path.name.startswith(word)],
    ):
        if len(found) == 1:
            return found[0].path
        if found:
            raise UserError(
                f"`{name}` {shown(word)}: {len(found)} runs are called so; give one of their "
                f"folders: {_listed([row.path.name for row in found])}"
            )
    raise UserError(f"`{name}` {shown(word)}: {_unknown(word, place, rows)}")


def _not_there(path: Path) -> str:
    """Why a path with a `/` names nothing; what is called nearly so beside it."""
    kind = "file" if path.suffix in _FILES else "folder"
    beside = {row.path.name: row.path for row in list_runs(path.parent)}
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f" did you mean {shown(beside[near[0]])}?" if near else ""
    return f"no such {kind} or name of a run;{hint} `ws-learner runs` lists them"


def _unknown(word: str, place: Path, rows: Sequence[RunRow]) -> str:
    if not rows:
        return f"no such folder, and no finished run or other in {place}"
    names = [name for row in rows for name in (row.name, row.path.name) if name]
    near = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return (
        f"no such folder, and no run in {place} is called so; {hint}`ws-learner runs` lists them, "
        f"the newest: {_listed([row.name or row.path.name for row in rows])}"
    )


def _listed(names: Sequence[str]) -> str:
    first = ", ".join(shown(name) for name in names[:5])
    return f"{first}, ..." if len(names) > 5 else first
