"""Interval of a share that was counted on a finite number of examples."""

from __future__ import annotations

import math

__all__ = ["counted", "wilson"]

_Z = 1.959963984540054  # two-sided 95 %
_ROUNDING = 0.01


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, JASA 22, 1927).

    Args:
        hits: Number of examples that count.
        total: Number of examples, at least 1.

    Example:
        >>> low, high = wilson(5, 10)
        >>> round(low, 4), round(high, 4)
        (0.2366, 0.7634)
    """
    share, square = hits / total, _Z**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    spread = math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    half = _Z * spread / (1 + square / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def counted(share: float, total: int) -> int | None:
    """How many of `total` examples a share stands for; None if that is no whole number."""
    hits = round(share * total)
    whole = 0 <= hits <= total and abs(share * total - hits) < _ROUNDING
    return hits if whole else None
