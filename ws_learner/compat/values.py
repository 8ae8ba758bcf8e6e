"""Read config files and validate their values. Free of torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ws_learner.core import read_text

__all__ = [
    "MOST_CONFIG",
    "above_zero",
    "boolean",
    "fraction",
    "from_zero",
    "number",
    "read_config_text",
    "text",
    "whole",
]

MOST_CONFIG = 1 << 20


def read_config_text(path: Path) -> str:
    """The text of a config file.

    Raises:
        UserError: It cannot be read, or is not UTF-8.
    """
    return read_text(path, where=f"`config` {path}", remedy="give a config file", most=MOST_CONFIG)


def number(value: Any) -> float:
    """A number; `1e-3`, which YAML 1.1 takes for a word, is one too.

    Raises:
        TypeError: It is none.
        ValueError: It is a word that is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def above_zero(value: Any) -> float:
    """A finite number above 0.

    Raises:
        TypeError: It is no number.
        ValueError: It is outside.
    """
    given = number(value)
    if not 0 < given < math.inf:
        raise ValueError
    return given


def from_zero(value: Any) -> float:
    """A finite number from 0.

    Raises:
        TypeError: It is no number.
        ValueError: It is outside.
    """
    given = number(value)
    if not 0 <= given < math.inf:
        raise ValueError
    return given


def whole(value: Any) -> int:
    """A whole number from 0.

    Raises:
        TypeError: It is no number.
        ValueError: It has a fraction or is negative.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    if value < 0:
        raise ValueError
    return value


def fraction(value: Any) -> float:
    """A share in [0, 1).

    Raises:
        TypeError: It is no number.
        ValueError: It is outside.
    """
    share = number(value)
    if not 0 <= share < 1:
        raise ValueError
    return share


def boolean(value: Any) -> bool:
    """True or false.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(value, bool):
        raise TypeError
    return value


def text(value: Any) -> str:
    """A word.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, str):
        raise TypeError
    return value
