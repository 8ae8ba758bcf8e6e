"""Base of patterns with units of several weights: geometry, pooling, exact selection."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ws_learner.core import check_choice
from ws_learner.pruning.patterns.mask import keep_largest
from ws_learner.pruning.patterns.unit_counts import Classes, Side, counts_for, nearest_sum

__all__ = ["GroupedPattern", "PoolName", "from_rows", "geometry", "to_rows"]

PoolName = Literal["mean", "sum", "max"]
"""How a unit's score is made of those of its weights."""


def geometry(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(outputs, taps, inputs) of a weight (O, I, *kernel); a vector has one input.

    Raises:
        ValueError: A scalar has no outputs.
    """
    if not shape:
        raise ValueError("a single number has no pattern")
    return shape[0], math.prod(shape[2:]), shape[1] if len(shape) > 1 else 1


def to_rows(values: Tensor) -> Tensor:
    """View (O, I, *kernel) as (O, taps x I), inputs innermost."""
    if values.ndim < 3:
        return values.reshape(values.shape[0], -1)
    return values.movedim(1, -1).reshape(values.shape[0], -1)


def from_rows(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo `to_rows`."""
    if len(shape) < 3:
        return rows.reshape(shape)
    return rows.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()


class GroupedPattern(ABC):
    """A pattern defined by the sizes, pooled scores and extent of its units."""

    @abstractmethod
    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`."""

    @abstractmethod
    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`."""

    @abstractmethod
    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""

    @abstractmethod
    def pooled(self, score: Tensor, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`."""

    @abstractmethod
    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """See `Pattern`."""

    def feasible(self, shape: tuple[int, ...], zeros: int, *, side: Side = "nearest") -> int:
        """See `Pattern`."""
        return nearest_sum(max(zeros, 0), self.classes(shape), side)

    def mask(self, score: Tensor, zeros: int, *, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`."""
        check_choice(pool, PoolName, name="pool")
        zeros, shape = operator.index(zeros), tuple(score.shape)
        nearest = self.feasible(shape, zeros)
        if nearest != zeros:
            raise ValueError(
                f"{zeros} zeros do not fit the pattern {self} and the shape {shape}: the nearest "
                f"count of whole units is {nearest}"
            )
        if score.numel() and bool(torch.isnan(score.max())):  # max() hands a NaN on
            raise ValueError(f"a score of shape {shape} is NaN; has the training diverged?")
        if not score.is_floating_point() or score.dtype in (torch.float16, torch.bfloat16):
            score = score.float()
        return self.pruned(score, zeros, pool)

    def pruned(self, score: Tensor, zeros: int, pool: PoolName) -> Tensor:
        """The mask of checked scores and a feasible number of zeros."""
        shape = tuple(score.shape)
        if zeros in (0, self.most(shape)):
            every = torch.full((len(self.sizes(shape)),), zeros == 0, device=score.device)
            return self.expand(every, score)
        return self.expand(self.keep(self.pooled(score, pool), zeros, shape), score)

    def most(self, shape: tuple[int, ...]) -> int:
        """Zeros if all units are pruned."""
        return sum(size * count for size, count in self.classes(shape))

    def keep(self, pooled: Tensor, zeros: int, shape: tuple[int, ...]) -> Tensor:
        """(U,) bool: prune `zeros` weights by whole units, the smallest scores first.

        Where sizes differ, as many of each size go as among the smallest scores of all, changed
        by the fewest units that make the sum exact.
        """
        classes = self.classes(shape)
        if len(classes) == 1 and classes[0][1] == len(pooled):
            return keep_largest(pooled, zeros // classes[0][0])
        sizes = self.sizes(shape).to(pooled.device)
        keep = sizes >= 0
        order = torch.argsort(torch.where(sizes > 0, pooled, math.inf), stable=True)
        first = order[sizes[order].cumsum(0) <= zeros]
        near = np.array([int((sizes[first] == size).sum()) for size, _ in classes], dtype=np.int64)
        for (size, _), count in zip(classes, counts_for(zeros, classes, near), strict=True):
            (members,) = torch.nonzero(sizes == size, as_tuple=True)
            keep[members] = keep_largest(pooled[members], int(count))
        return keep
