"""Scopes: where the smallest scores are looked for, in each layer or in the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from envs.problem import FloatArray, IntArray

__all__ = ["Pool", "Scope", "global_zeros"]

Scope = Literal["local", "global"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """The units of one layer, or of several that lose the same ones.

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


def global_zeros(pools: Sequence[Pool], total: int) -> list[int]:
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


def _by_threshold(pools: Sequence[Pool], size: int, total: int) -> list[int]:
    """Units of each pool, all of one size; no more is sorted than has to be."""
    bounds = [(-(-p.lower // size), p.upper // size) for p in pools]
    bounds = [(min(low, high), high) for low, high in bounds]
    open_ = [_between(p.scores, *limits) for p, limits in zip(pools, bounds, strict=True)]
    fixed = [low for low, _ in bounds]
    wanted = round(total / size) - sum(fixed)
    left = min(max(wanted, 0), sum(len(scores) for scores in open_))
    if left == 0:
        return fixed
    threshold = np.partition(np.concatenate(open_), left - 1)[left - 1]
    below = [int((scores < threshold).sum()) for scores in open_]
    left -= sum(below)
    counts = []
    for low, sure, scores in zip(fixed, below, open_, strict=True):
        ties = min(left, int((scores == threshold).sum()))
        left -= ties
        counts.append(low + sure + ties)
    return counts


def _between(scores: FloatArray, low: int, high: int) -> FloatArray:
    """The scores of ranks [low, high), in any order."""
    if low >= high:
        return scores[:0]
    ranked: FloatArray = np.partition(scores, sorted({low, high - 1}))[low:high]
    return ranked


def _by_sorting(pools: Sequence[Pool], total: int) -> list[int]:
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
    chosen = np.concatenate(sizes)[order]
    taken = np.cumsum(chosen) <= total - sum(zeros)
    more = np.bincount(
        np.concatenate(owners)[order][taken], weights=chosen[taken], minlength=len(pools)
    )
    return [count + int(extra) for count, extra in zip(zeros, more, strict=True)]
