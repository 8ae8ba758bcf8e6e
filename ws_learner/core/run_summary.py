"""`summary.json`: headline numbers of a finished run, and the checksums of its results."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ws_learner.core.checksums import sealed, unsealed
from ws_learner.core.errors import UserError
from ws_learner.core.files import read_json, sha256_of, write_json
from ws_learner.core.paths import AnyPath, as_path

__all__ = ["RESULTS", "altered_results", "check_result", "read_run_summary", "write_run_summary"]

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


def check_result(summary: Mapping[str, Any], path: AnyPath) -> None:
    """Compare one result of a finished run with the checksum in its summary.

    Args:
        summary: As it is in `summary.json`.
        path: Of the result, such as `ratios.csv`. One that has no checksum passes.

    Raises:
        UserError: It is damaged, changed or missing.
    """
    path, files = as_path(path), summary.get(_FILES)
    if isinstance(files, dict) and path.name in files:
        _refuse_other(path, files[path.name])


def altered_results(summary: Mapping[str, Any], folder: AnyPath, *, most_bytes: int) -> list[str]:
    """What is wrong with the results of a finished run, a short line each; nothing is raised.

    Args:
        summary: As it is in `summary.json`.
        folder: The run's folder.
        most_bytes: Files that are larger are only looked for, not read.
    """
    folder, files = as_path(folder, name="folder"), summary.get(_FILES)
    known = files if isinstance(files, dict) else {}
    listed = [name for name in RESULTS if name in known]
    found = ((name, _problem(folder / name, known[name], most=most_bytes)) for name in listed)
    return [f"{name}: {problem}" for name, problem in found if problem]


def _refuse_other(path: Path, wanted: object) -> None:
    problem = _problem(path, wanted)
    if problem:
        raise UserError(f"{path}: {problem}; {_REMEDY}")


def _problem(path: Path, wanted: object, *, most: float = math.inf) -> str:
    """What is wrong with a result, empty if nothing is."""
    if not os.path.lexists(path):
        return "is missing from a finished run"
    try:
        if not path.is_file():
            return "is no file"
        about = path.stat()
        digest = None
        if about.st_size <= most:
            times = (about.st_mtime_ns, about.st_ctime_ns)
            digest = _known_digest(path.absolute(), times, about.st_size)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if digest not in (None, wanted):
        return "damaged or changed (its SHA-256 is another)"
    return ""


@lru_cache(maxsize=4096)
def _known_digest(path: Path, times: tuple[int, int], size: int) -> str:
    return sha256_of(path)
