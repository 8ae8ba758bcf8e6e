"""Values of a config file, checked for what they are. Free of torch."""

from __future__ import annotations

from typing import Any

__all__ = ["boolean", "fraction", "number", "text", "whole"]


def number(value: Any) -> float:
    """A number; `1e-3`, which YAML 1.1 takes for a word, is one too.

    Raises:
        TypeError: It is none.
        ValueError: It is a word that is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


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
