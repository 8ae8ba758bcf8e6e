"""`summary.json`: headline numbers of a finished run, and the checksums of its results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ws_learner.core.checksums import sealed, unsealed
from ws_learner.core.errors import UserError
from ws_learner.core.files import read_json, sha256_of, write_json

__all__ = ["RESULTS", "check_result", "read_run_summary", "write_run_summary"]

RESULTS = (
    *("model.safetensors", "ratios.csv", "rollouts.csv"),
    *("metrics.csv", "frontier.csv", "policy.safetensors"),
    *("protocols.csv", "dense.csv", "windows.csv"),
)
"""Files of a finished run that have a checksum. Settings may be edited, as after a move of data."""

_FILES = "files_sha256"
_REMEDY = (
    "take the file from a copy, or delete summary.json, and the command that made the run goes on "
    "from its state/ folder"
)


def write_run_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary, which makes the run a finished one; all its results are there already."""
    there = [folder / name for name in RESULTS if (folder / name).exists()]
    files = {path.name: sha256_of(path) for path in there}
    write_json(folder / "summary.json", sealed({**summary, _FILES: files}))


def read_run_summary(folder: Path) -> dict[str, Any]:
    """Read the summary, if it and the results it counts are as they were written.

    A run that was made before there were checksums is read without them.

    Raises:
        UserError: The summary is damaged, or a result is damaged, changed or missing.
    """
    path = folder / "summary.json"
    summary = unsealed(read_json(path), path, _REMEDY)
    files = summary.pop(_FILES, {})
    for name in RESULTS if isinstance(files, dict) else ():
        if name in files:
            _refuse_other(folder / name, files[name])
    return summary


def check_result(summary: Mapping[str, Any], path: Path) -> None:
    """Compare one result of a finished run with the checksum in its summary.

    Args:
        summary: As it is in `summary.json`.
        path: Of the result, such as `ratios.csv`. One that has no checksum passes.

    Raises:
        UserError: It is damaged, changed or missing.
    """
    files = summary.get(_FILES)
    if isinstance(files, dict) and path.name in files:
        _refuse_other(path, files[path.name])


def _refuse_other(path: Path, wanted: object) -> None:
    if not os.path.lexists(path):
        raise UserError(f"{path}: is missing from a finished run; {_REMEDY}")
    if not path.is_file():
        raise UserError(f"{path}: is no file; {_REMEDY}")
    about = path.stat()
    if _known_digest(path.absolute(), about.st_mtime_ns, about.st_size) != wanted:
        raise UserError(f"{path}: damaged or changed (its SHA-256 is another); {_REMEDY}")


@lru_cache(maxsize=64)
def _known_digest(path: Path, changed: int, size: int) -> str:
    return sha256_of(path)
