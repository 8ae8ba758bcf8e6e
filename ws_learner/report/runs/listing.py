"""All runs of a folder."""

from __future__ import annotations

import os
from pathlib import Path

from ws_learner.core import AnyPath, as_path
from ws_learner.report.runs.reading import is_run, read_row
from ws_learner.report.runs.row import RunRow

__all__ = ["list_runs"]


def list_runs(folder: AnyPath = "runs") -> list[RunRow]:
    """The runs directly below a folder, newest first; nothing is written and nothing raised.

    Folders without files of a run are left out. A damaged run is listed with the state `unknown`
    and its reason. Only small files are opened: about half a millisecond for a finished run.

    Args:
        folder: Folder of run directories, such as `runs`. One that is not there has none.
    """
    place = as_path(folder, name="folder")
    rows = [read_row(path) for path in _folders(place) if is_run(path)]
    return sorted(rows, key=lambda row: (-row.started, row.id))


def _folders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:
        return []
