"""Selection without a sort or a copy of all values: the radix of their bits, counted in passes.

Values are read several times, in parts. Each pass counts them by 16 bits of a key, an unsigned
number in the same order, among those that share the bits found so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parts", "in_parts", "smallest_at", "threshold_counts"]

Parts = Callable[[], Iterable[NDArray[Any]]]
"""Reads the values of a layer: arrays of one floating type, in any order, the same each time."""

_BITS = 16
_DIGITS = 1 << _BITS
_PART = 1 << 18


def in_parts(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """A flat array, in views that fit into the cache."""
    for start in range(0, len(values), _PART):
        yield values[start : start + _PART]


def threshold_counts(
    layers: Sequence[Parts],
    *,
    lower: Sequence[int],
    upper: Sequence[int],
    total: int,
    dtype: type[np.float32] | type[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many values of each layer are below the threshold, and how many are not above it.

    The threshold is the smallest value with `total` or more values not above it, where a layer
    counts for `lower` at least and `upper` at most. Needs 0.5 MB per pass, whatever the sizes.

    Args:
        layers: L readers of values; NaN has no meaning here.
        lower: L least counts.
        upper: L largest counts; their sum is at least `total`.
        total: Values to select; above the sum of `lower`.
        dtype: Type of the values.

    Returns:
        (L,) counts below and (L,) counts not above, within `lower` and `upper`.
    """
    prefix = 0
    for shift in reversed(range(0, _width(dtype), _BITS)):
        counted = np.zeros(_DIGITS, np.int64)
        for parts, least, most in zip(layers, lower, upper, strict=True):
            before, digits = 0, np.zeros(_DIGITS, np.int64)
            for part in parts():
                keys = _keys(part, dtype) >> _unsigned(dtype)(shift)
                high = keys >> _unsigned(dtype)(_BITS) if shift + _BITS < _width(dtype) else None
                if high is not None:
                    before += int(np.count_nonzero(high < prefix))
                    keys = keys[high == prefix]
                low = (keys & _unsigned(dtype)(_DIGITS - 1)).astype(np.int64)
                digits += np.bincount(low, minlength=_DIGITS)
            counted += np.clip(before + np.cumsum(digits), least, most)
        prefix = prefix << _BITS | int(np.searchsorted(counted, total))
    below = np.zeros(len(layers), np.int64)
    not_above = np.zeros(len(layers), np.int64)
    for layer, parts in enumerate(layers):
        for part in parts():
            keys = _keys(part, dtype)
            below[layer] += np.count_nonzero(keys < prefix)
            not_above[layer] += np.count_nonzero(keys <= prefix)
    return np.clip(below, lower, upper), np.clip(not_above, lower, upper)


def smallest_at(parts: Parts, rank: int, dtype: type[np.float32] | type[np.float64]) -> float:
    """The `rank`-th smallest value, from 1; -0 and 0 are one value."""
    prefix = 0
    for shift in reversed(range(0, _width(dtype), _BITS)):
        digits = np.zeros(_DIGITS, np.int64)
        for part in parts():
            keys = _keys(part, dtype) >> _unsigned(dtype)(shift)
            if shift + _BITS < _width(dtype):
                keys = keys[keys >> _unsigned(dtype)(_BITS) == prefix]
            low = (keys & _unsigned(dtype)(_DIGITS - 1)).astype(np.int64)
            digits += np.bincount(low, minlength=_DIGITS)
        counted = np.cumsum(digits)
        digit = int(np.searchsorted(counted, rank))
        rank -= int(counted[digit] - digits[digit])
        prefix = prefix << _BITS | digit
    return _value(prefix, dtype)


def _width(dtype: type[np.floating[Any]]) -> int:
    return 8 * np.dtype(dtype).itemsize


def _unsigned(dtype: type[np.floating[Any]]) -> type[np.uint32] | type[np.uint64]:
    return np.uint32 if _width(dtype) == 32 else np.uint64


def _keys(values: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """Unsigned numbers in the order of the values; -0 is 0."""
    unsigned, last = _unsigned(dtype), _width(dtype) - 1
    bits: Any = np.asarray(values + dtype(0), dtype).view(unsigned)
    sign = unsigned(1 << last)
    keys: NDArray[Any] = np.where(bits & sign, ~bits, bits | sign)
    return keys


def _value(key: int, dtype: type[np.floating[Any]]) -> float:
    width = _width(dtype)
    sign = 1 << (width - 1)
    bits = key ^ sign if key & sign else key ^ ((1 << width) - 1)
    return float(np.array([bits], _unsigned(dtype)).view(dtype)[0])
