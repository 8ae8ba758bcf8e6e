"""Values of a run's JSON files, which may hold anything: of the right type, or nothing."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ws_learner.core import UserError, parse_json, read_text, shown

__all__ = ["number", "read_object", "table", "text", "whole"]

_MOST_BYTES = 8 << 20


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: It is no plain file, too large, or holds no JSON object.
    """
    where, remedy = path.name, "the file is damaged"
    try:
        plain = stat.S_ISREG(os.stat(path).st_mode)  # a named pipe would block
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read; {remedy}") from error
    if not plain:
        raise UserError(f"{where}: is no plain file")
    content = read_text(path, where=where, remedy=remedy, most=_MOST_BYTES)
    value = parse_json(content, where=where, remedy=remedy)
    if not isinstance(value, dict):
        raise UserError(f"{where}: holds a {type(value).__name__}, no object; {remedy}")
    return value


def text(values: Mapping[str, Any], name: str, *, most: int = 80) -> str:
    """A text on one line, at most `most` characters long; empty if there is none."""
    value = values.get(name)
    return shown(value, most=most) if isinstance(value, str) else ""


def number(values: Mapping[str, Any], name: str) -> float | None:
    """A finite number; None if there is none."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def whole(values: Mapping[str, Any], name: str) -> int | None:
    """A whole number from 0 to 2^53; None if there is none."""
    found = number(values, name)
    fits = found is not None and found == int(found) and 0 <= found <= 2**53
    return int(found) if found is not None and fits else None


def table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object within; empty if there is none."""
    value = values.get(name)
    return value if isinstance(value, dict) else {}
