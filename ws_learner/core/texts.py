"""Text and JSON of files that may come from anywhere: limits, one line for what is wrong."""

from __future__ import annotations

import json
import stat
from typing import Any

from ws_learner.core.errors import UserError
from ws_learner.core.paths import AnyPath, as_path
from ws_learner.core.shown_values import shown

__all__ = ["MOST_BYTES", "parse_json", "read_text"]

MOST_BYTES = 64 << 20
"""Size of the largest text file that is read."""

_DEPTH = 100


def read_text(
    path: AnyPath, *, where: str, remedy: str, most: int = MOST_BYTES, kind: str = "text"
) -> str:
    """A UTF-8 file's text, without a byte order mark.

    Args:
        path: The file.
        where: What stands before the reason in messages.
        remedy: What stands after it.
        most: Number of bytes above which it is refused.
        kind: What it should be, for messages.

    Raises:
        UserError: It cannot be read, is larger, or is no UTF-8 text.
    """
    path = as_path(path)
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise UserError(f"{where}: is a pipe, no file; {remedy}")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{where}: cannot be read ({reason}); {remedy}") from error
    if len(data) > most:
        raise UserError(f"{where}: is larger than {most >> 20} MiB; {remedy}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"{error.reason}, byte {error.start}"
        raise UserError(f"{where}: not {kind} ({reason}); {remedy}") from error


def parse_json(text: str, *, where: str, remedy: str) -> Any:
    """The value of a JSON text, of which no key is given twice.

    Raises:
        UserError: It is no JSON, nested deeper than 100, or has a key twice in one object.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise UserError(f"{where}: not JSON that can be read (nested too deeply); {remedy}") from (
            error
        )
    except ValueError as error:
        reason = shown(str(error).splitlines()[0], most=160)
        raise UserError(f"{where}: not JSON ({reason}); {remedy}") from error
    if _deeper(value, _DEPTH):
        raise UserError(f"{where}: not JSON that can be read (nested too deeply); {remedy}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} is given twice")
    return found


def _deeper(value: Any, left: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return not left or any(_deeper(one, left - 1) for one in inner)
