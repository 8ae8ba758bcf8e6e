"""Scopes: the smallest scores are taken per layer or over the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from envs import FloatArray, IntArray
from ws_learner.core import in_parts, threshold_counts

__all__ = ["Scope", "ScorePool", "global_zeros"]

Scope = Literal["local", "global"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScorePool:
    """The units of one layer, or of several layers that share their pruned units.

    Attributes:
        scores: (U,) score of each unit, comparable between layers.
        sizes: Weights that a unit prunes: one number for all, or (U,).
        lower: Least zeros.
        upper: Most zeros.
    """

    scores: FloatArray
    sizes: int | IntArray
    lower: int
    upper: int


def global_zeros(pools: Sequence[ScorePool], total: int) -> list[int]:
    """Zeros of each pool if the units of the smallest scores of all pools go.

    A pool's first `lower` zeros go in any case, and none beyond `upper`. Among equal scores the
    first pool goes first. With units of one size the sum is the multiple of it next to `total`,
    as far as the bounds allow; with others it misses `total` by less than the largest unit.

    Args:
        pools: What there is.
        total: Zeros wanted.

    Raises:
        ValueError: The bounds do not allow the total.
    """
    least, most = sum(p.lower for p in pools), sum(p.upper for p in pools)
    if not least <= total <= most:
        raise ValueError(f"{total} zeros over all layers: their bounds allow {least} to {most}")
    sizes = {p.sizes if isinstance(p.sizes, int) else None for p in pools}
    if len(sizes) == 1 and (size := sizes.pop()) is not None:
        return [count * size for count in _by_threshold(pools, size, total)]
    return _by_sorting(pools, total)


def _by_threshold(pools: Sequence[ScorePool], size: int, total: int) -> list[int]:
    """Pruned units of each pool where all have one size; found without a full sort."""
    bounds = [(-(-p.lower // size), p.upper // size) for p in pools]
    bounds = [
        (min(low, high), min(high, len(p.scores)))
        for (low, high), p in zip(bounds, pools, strict=True)
    ]
    fixed, most = [low for low, _ in bounds], [high for _, high in bounds]
    wanted = min(max(round(total / size), sum(fixed)), sum(most))
    if wanted == sum(fixed):
        return fixed
    narrow = all(pool.scores.dtype == np.float32 for pool in pools)
    below, not_above = threshold_counts(
        [partial(in_parts, pool.scores) for pool in pools],
        lower=fixed,
        upper=most,
        total=wanted,
        dtype=np.float32 if narrow else np.float64,
    )
    left = wanted - int(below.sum())
    counts = []
    for sure, ties in zip(below.tolist(), (not_above - below).tolist(), strict=True):
        counts.append(sure + min(left, ties))
        left -= min(left, ties)
    return counts


def _by_sorting(pools: Sequence[ScorePool], total: int) -> list[int]:
    """Zeros of each pool where units have several sizes.

    Of each size, as many units go as are among the smallest scores, changed by the fewest units
    that make the sum right.
    """
    zeros, scores, sizes, owners = [], [], [], []
    for index, pool in enumerate(pools):
        order = np.argsort(pool.scores, kind="stable")
        size = np.broadcast_to(np.asarray(pool.sizes), pool.scores.shape)[order]
        after = np.cumsum(size)
        fixed, open_ = after <= pool.lower, (after > pool.lower) & (after <= pool.upper)
        zeros.append(int(size[fixed].sum()))
        scores.append(pool.scores[order][open_])
        sizes.append(size[open_])
        owners.append(np.full(int(open_.sum()), index))
    order = np.argsort(np.concatenate(scores), kind="stable")
    size, owner = np.concatenate(sizes)[order], np.concatenate(owners)[order]
    left = total - sum(zeros)
    gone = np.cumsum(size) <= left
    kinds = np.array([kind for kind in np.unique(size) if kind], dtype=np.int64)
    counts = np.array([int((size[gone] == kind).sum()) for kind in kinds], dtype=np.int64)
    most = np.array([int((size == kind).sum()) for kind in kinds], dtype=np.int64)
    counts = _balanced(counts, left - int(counts @ kinds), kinds, most)
    for kind, count in zip(kinds, counts, strict=True):
        chosen = owner[size == kind][:count]
        for index, units in enumerate(np.bincount(chosen, minlength=len(pools))):
            zeros[index] += int(units * kind)
    return zeros


def _balanced(counts: IntArray, gap: int, sizes: IntArray, most: IntArray) -> IntArray:
    """Change counts by the fewest units so that their sum in weights moves by `gap`, or nearest.

    Args:
        counts: (C,) units of each size.
        gap: Weights to add.
        sizes: (C,) weights of a unit.
        most: (C,) units there are.
    """
    if not gap:
        return counts
    for reach in (4, 32):
        low, high = np.maximum(-reach, -counts), np.minimum(reach, most - counts)
        moves, missed = _fewest_moves(gap, sizes, low, high)
        if not missed:
            break
    return counts + moves


def _fewest_moves(gap: int, sizes: IntArray, low: IntArray, high: IntArray) -> tuple[IntArray, int]:
    """Moves of each size within [low, high] that come nearest to `gap`, and what they miss.

    Dynamic programming over the sizes: the fewest units for every sum that can be reached.
    """
    step = int(np.gcd.reduce(sizes))
    steps = sizes // step
    origin = int(-(low @ steps))
    never = np.iinfo(np.int32).max // 2
    best = np.full(origin + int(high @ steps) + 1, never, np.int32)
    best[origin] = 0
    tables = [best]
    for size, least, largest in zip(steps, low, high, strict=True):
        new = np.full_like(best, never)
        for move in range(int(least), int(largest) + 1):
            shift = move * int(size)
            source = best[max(-shift, 0) : len(best) - max(shift, 0)]
            target = new[max(shift, 0) : len(best) - max(-shift, 0)]
            np.minimum(target, source + abs(move), out=target)
        best = new
        tables.append(best)
    (reached,) = np.nonzero(best < never)
    end = int(reached[np.abs((reached - origin) * step - gap).argmin()])
    missed, moves = abs((end - origin) * step - gap), np.zeros(len(steps), np.int64)
    for index in reversed(range(len(steps))):
        before, cost = tables[index], tables[index + 1][end]
        for move in sorted(range(int(low[index]), int(high[index]) + 1), key=abs):
            place = end - move * int(steps[index])
            if 0 <= place < len(before) and before[place] + abs(move) == cost:
                moves[index], end = move, place
                break
    return moves, missed
