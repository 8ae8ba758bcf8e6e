"""Percentages where a share is meant."""

from __future__ import annotations

__all__ = ["share_hint"]


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
