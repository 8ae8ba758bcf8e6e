"""SHA-256 inside the files that a run writes, so that damage is noticed when they are read.

A file from before there were checksums has none and is read without the check.
"""

from __future__ import annotations

import csv
import hashlib
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ws_learner.core.errors import UserError
from ws_learner.core.paths import AnyPath
from ws_learner.core.shown_values import shown

__all__ = ["reading", "sealed", "sealed_zip", "unsealed", "zip_is_whole"]

_KEY, _OF = "sha256", "sha256_of"  # two, so that a damaged name does not mean: no checksum
_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64
_END = b"PK\x05\x06"  # begins the 22 bytes that end a zip file without a comment
_END_SIZE = 22
_PIECE = 1 << 20

_DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError),
    *(RuntimeError, EOFError, OSError, csv.Error, struct.error, zipfile.BadZipFile),
)


@contextmanager
def reading(path: AnyPath, remedy: str) -> Iterator[None]:
    """Inside, what goes wrong means that the file is damaged; for code that only reads it.

    Args:
        path: The file.
        remedy: What to do, such as `delete it and run the same command again`.

    Raises:
        UserError: As it was raised, or in place of what a damaged file leads to.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {remedy}") from error
    except _DAMAGE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: damaged ({shown(reason, most=120)}); {remedy}") from error


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of all other entries under `sha256`."""
    return {**value, **_seal(value)}


def unsealed(value: Any, path: AnyPath, remedy: str) -> dict[str, Any]:
    """What was `sealed`, without the checksum; an object that has none passes.

    Raises:
        UserError: It is no JSON object, or not the one that was written.
    """
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged (holds a {type(value).__name__}, no object); {remedy}")
    found = {name: entry for name, entry in value.items() if name not in (_KEY, _OF)}
    if len(found) < len(value) and {**found, **_seal(found)} != value:
        raise UserError(f"{path}: damaged or changed (its SHA-256 is another); {remedy}")
    return found


def sealed_zip(data: bytes) -> bytes:
    """A zip file, as `torch.save` writes it, with its checksum as the file's comment.

    Raises:
        ValueError: It is no zip file without a comment.
    """
    if data[-_END_SIZE:-18] != _END or data[-2:] != b"\0\0":
        raise ValueError("no zip file without a comment")
    return (
        data[:-2]
        + struct.pack("<H", _COMMENT)
        + _MARK
        + hashlib.sha256(data[:-2]).hexdigest().encode()
    )


def zip_is_whole(path: Path) -> bool:
    """Whether a zip file is as it was written; True if it has no checksum.

    A file without one must end as such a file does, so that a damaged checksum does not count as
    none.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_SIZE))
        end = file.read(_END_SIZE)
        if end[:4] == _END:
            return end[-2:] == b"\0\0"
        if size < _END_SIZE + _COMMENT:
            return False
        file.seek(0)
        digest, left = hashlib.sha256(), size - _COMMENT - 2
        while left:
            piece = file.read(min(_PIECE, left))
            if not piece:
                return False
            digest.update(piece)
            left -= len(piece)
        wanted = struct.pack("<H", _COMMENT) + _MARK + digest.hexdigest().encode()
        return file.read() == wanted


def _seal(value: Mapping[str, Any]) -> dict[str, str]:
    plain = json.loads(json.dumps(dict(value)))  # as it is read back
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return {_KEY: digest, _OF: "all other entries"}
