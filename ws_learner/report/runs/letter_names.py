"""Letters that stand for the runs of a comparison."""

from __future__ import annotations

from string import ascii_uppercase

__all__ = ["letters"]


def letters(count: int) -> list[str]:
    """A, B, ..., Z, AA, AB, ...

    Example:
        >>> letters(28)[-3:]
        ['Z', 'AA', 'AB']
    """
    tens = ["", *ascii_uppercase]
    return [tens[place // 26] + ascii_uppercase[place % 26] for place in range(count)]
