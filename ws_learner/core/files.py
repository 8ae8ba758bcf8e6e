"""Atomic file writes: every write goes to a temporary file that is then renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ws_learner.core.errors import UserError
from ws_learner.core.paths import AnyPath, as_path
from ws_learner.core.texts import parse_json, read_text

__all__ = [
    "read_json",
    "refuse_unwritable",
    "remove_unfinished",
    "sha256_of",
    "unfinished",
    "write_bytes",
    "write_json",
    "write_text",
    "write_with",
]

_UNFINISHED = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")

_REMEDY = "the file is damaged: take it from a copy, or run the command again in another folder"


def refuse_unwritable(path: AnyPath, *, setting: str, makes_folders: bool = True) -> None:
    """Refuse the path of a file that could not be written, before any work.

    Args:
        path: The file; folders above it are made when it is written.
        setting: What gave it.
        makes_folders: Whether the folder above it may be missing.

    Raises:
        UserError: It is a folder, or the nearest folder there is cannot be written; or the folder
            above it is missing and may not be.
    """
    path = as_path(path, name=setting)
    place = path.absolute().parent
    if not makes_folders and not place.exists():
        raise UserError(f"`{setting}` {path}: no folder {place}; make it, or choose another place")
    while not place.exists() and place != place.parent:
        place = place.parent
    if path.is_dir():
        raise UserError(f"`{setting}` {path}: is a folder; give the path of a file")
    if not place.is_dir():
        raise UserError(f"`{setting}` {path}: {place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"`{setting}` {path}: {place} cannot be written; choose another place")


def write_with(
    path: AnyPath,
    writer: Callable[[Path], object],
    *,
    remedy: str = "free space or choose another folder",
) -> None:
    """Call `writer` on a temporary file in the same folder, flush it to disk and rename it.

    Args:
        path: The file.
        writer: Writes the temporary file; raises OSError if it cannot.
        remedy: What to do if it cannot be written.

    Raises:
        UserError: The disk is full or the folder cannot be written; `path` is unchanged.
    """
    path = as_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        try:
            writer(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; {remedy}, then run the same "
            "command again"
        ) from error


def unfinished(path: AnyPath) -> bool:
    """Whether a file has the name of one that `write_with` began and was killed at."""
    return _UNFINISHED.fullmatch(as_path(path).name) is not None


def remove_unfinished(folder: AnyPath, *, older: float = 0.0) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Args:
        folder: No other process writes to it, or only for less than `older` seconds.
        older: Seconds since the last write to a file.
    """
    place = as_path(folder, name="folder")
    for path in place.glob(".*") if place.is_dir() else ():
        with suppress(OSError):
            if unfinished(path) and time.time() - path.stat().st_mtime >= older:
                path.unlink()


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    path = as_path(path)
    write_with(path, lambda temporary: temporary.write_bytes(data))


def write_text(path: AnyPath, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    path = as_path(path)
    write_bytes(path, text.encode())


def write_json(path: AnyPath, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys."""
    path = as_path(path)
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: AnyPath) -> Any:
    """Read a JSON file of ours.

    Raises:
        UserError: It is not there, or damaged: no text, no JSON, or a key is there twice.
    """
    path = as_path(path)
    where = str(path)
    return parse_json(read_text(path, where=where, remedy=_REMEDY), where=where, remedy=_REMEDY)


def sha256_of(path: AnyPath) -> str:
    """Hex SHA-256 of a file's bytes, read in 1 MiB pieces."""
    path = as_path(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
