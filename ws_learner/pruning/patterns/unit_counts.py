"""Counts over units of unequal size: which sums of zeros exist, and how many units of each size.

A unit is a set of weights pruned together, such as a block. Where a pattern does not divide a
tensor, the units at its edges are smaller. So there are a few classes: (size, count) pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import numpy as np

from envs import IntArray

__all__ = ["Classes", "Side", "counts_for", "merged", "nearest_sum"]

Classes = tuple[tuple[int, int], ...]
"""(weights a unit prunes, number of such units), sizes above 0 and distinct."""

Side = Literal["nearest", "down", "up"]


def merged(pairs: Iterable[tuple[int, int]]) -> Classes:
    """Classes of units: those of equal size added up, empty ones left out."""
    totals: dict[int, int] = {}
    for size, count in pairs:
        if size and count:
            totals[size] = totals.get(size, 0) + count
    return tuple(sorted(totals.items()))


@lru_cache(maxsize=4096)
def nearest_sum(zeros: int, classes: Classes, side: Side = "nearest") -> int:
    """The sum of whole units that is nearest to `zeros`; of two equally near ones the smaller.

    Args:
        zeros: 0 or more.
        classes: The units there are.
        side: `down` allows sums up to `zeros` only, `up` those from `zeros` on if there is any.
    """
    if not classes:
        return 0
    if len(classes) == 1:
        ((size, count),) = classes
        units = -(-(2 * zeros - size) // (2 * size))  # halves go down
        units = {"nearest": units, "down": zeros // size, "up": -(-zeros // size)}[side]
        return min(max(units, 0), count) * size
    sums = _sums(zeros, classes, near=None)[0]
    if side == "down":
        return int(sums[sums <= zeros].max())
    above = sums[sums >= zeros]
    if side == "up":
        return int(above.min()) if above.size else int(sums.max())
    distance = np.abs(sums - zeros)
    return int(sums[distance == distance.min()].min())


def counts_for(zeros: int, classes: Classes, near: IntArray) -> IntArray:
    """Units of each class that prune `zeros` weights in sum, as close to `near` as can be.

    Args:
        zeros: Weights to prune.
        classes: The C classes of units.
        near: (C,) units of each class that would be pruned if sizes did not matter.

    Raises:
        ValueError: No whole units make that sum.
    """
    for close in (near, None):
        sums, counts = _sums(zeros, classes, near=close)
        exact = np.flatnonzero(sums == zeros)
        if exact.size:
            distance = np.abs(counts[exact] - near).sum(1)
            chosen: IntArray = counts[exact[int(distance.argmin())]]
            return chosen
    raise ValueError(f"{zeros} zeros are no sum of whole units (size, count): {classes}")


def _sums(zeros: int, classes: Classes, near: IntArray | None) -> tuple[IntArray, IntArray]:
    """(K,) sums around `zeros` and the (K, C) counts that make them.

    All but the largest class run through their counts, the largest fills up from below and from
    above. Remainders repeat after as many units as the largest class's size, so a stretch of that
    length is enough: around `near`, or at both ends and around the even share.
    """
    sizes = np.array([size for size, _ in classes])
    most = np.array([count for _, count in classes])
    main = int((sizes * most).argmax())
    reach = int(sizes[main])
    share = zeros / int(sizes @ most)
    ranges = []
    for index, count in enumerate(most.tolist()):
        if index == main:
            continue
        centres = [0, round(share * count), count] if near is None else [int(near[index])]
        values = np.concatenate([np.arange(c - reach, c + reach + 1) for c in centres])
        ranges.append(np.unique(values[(values >= 0) & (values <= count)]))
    grids = [grid.ravel() for grid in np.meshgrid(*ranges, indexing="ij")]
    others = np.stack(grids, 1) if grids else np.zeros((1, 0), np.int64)
    rest = zeros - others @ np.delete(sizes, main)
    fills = [rest // reach, -(-rest // reach)]
    counts = [np.insert(others, main, np.clip(fill, 0, most[main]), axis=1) for fill in fills]
    both: IntArray = np.concatenate(counts)
    return both @ sizes, both
