"""Percentages where a share is meant."""

from __future__ import annotations

__all__ = ["plain_number", "read_share", "share_hint"]


def share_hint(given: object) -> str:
    """The question that ends a message on a wrong share, if a percentage may have been meant.

    Example:
        >>> share_hint(75), share_hint("62.5%"), share_hint(-1), share_hint("x")
        ('; did you mean 0.75?', '; did you mean 0.625?', '', '')
    """
    text = str(given).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        return ""
    least = 0.0 if text.endswith("%") else 1.0
    return f"; did you mean {value / 100:.12g}?" if least < value <= 100 else ""


def read_share(text: str) -> float:
    """A number as typed, where a share is asked: `75%` is 0.75.

    Example:
        >>> read_share("75%"), read_share(" .5")
        (0.75, 0.5)

    Raises:
        ValueError: It is no number.
    """
    word = text.strip()
    if not word.endswith("%"):
        return float(word)
    return float(f"{float(word[:-1]) / 100:.15g}")  # 62.5% is 0.625 to the last digit


def plain_number(value: object) -> str:
    """A number as somebody would type it: 75 for 75.0; other values as `str`.

    Example:
        >>> plain_number(75.0), plain_number(0.1), plain_number(1e-05), plain_number("x")
        ('75', '0.1', '1e-05', 'x')
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
