"""95 % intervals of shares that were measured on some number of examples."""

from __future__ import annotations

import math

__all__ = ["counted", "difference_interval", "share_interval"]

_Z = 1.959963984540054
"""0.975 quantile of the normal distribution."""
_ROUNDING = 0.01


def share_interval(share: float, examples: int) -> tuple[float, float]:
    """Wilson's score interval of a share.

    For the mean of scores in [0, 1] that are not all 0 or 1 it is wider than needed, since their
    variance is smaller.

    Source: Wilson 1927; Newcombe 1998, Statistics in Medicine 17(8) 857, method 3.

    Args:
        share: In [0, 1].
        examples: Number of examples, at least 1.

    Returns:
        The ends, in [0, 1].
    """
    square = _Z * _Z / examples
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt((share * (1 - share) + square / 4) / examples)
    return max(0.0, middle - half), min(1.0, middle + half)


def difference_interval(
    first: float, second: float, *, examples: tuple[int, int]
) -> tuple[float, float]:
    """Newcombe's interval of `second` - `first`, as of two independent samples.

    Networks that are measured on the same examples are mostly right on the same ones; the interval
    is then wider than a paired one.

    Source: Newcombe 1998, Statistics in Medicine 17(8) 873, method 10.

    Args:
        first: Share in [0, 1].
        second: Share in [0, 1].
        examples: Number of examples of each.
    """
    low1, high1 = share_interval(first, examples[0])
    low2, high2 = share_interval(second, examples[1])
    difference = second - first
    below = math.hypot(second - low2, high1 - first)
    above = math.hypot(high2 - second, first - low1)
    return max(-1.0, difference - below), min(1.0, difference + above)


def counted(share: float, total: int) -> int | None:
    """How many of `total` examples a share stands for; None if that is no whole number."""
    hits = round(share * total)
    whole = 0 <= hits <= total and abs(share * total - hits) < _ROUNDING
    return hits if whole else None
