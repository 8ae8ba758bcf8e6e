"""N:M patterns with an N per layer, which a search under a budget chooses."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor

from ws_learner.core import check_choice
from ws_learner.pruning.patterns.group_base import GroupedPattern, PoolName
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.slices import Slices
from ws_learner.pruning.patterns.unit_counts import Classes, Side

__all__ = ["PerLayerNM"]


@dataclass(frozen=True)
class PerLayerNM(GroupedPattern):
    """All groups of a layer keep the same N of M weights, and the number of zeros determines N.

    N runs from 1 to M; at M the layer is dense. What a unit is depends on N, so `pooled`, `expand`
    and the like know single weights only.

    Attributes:
        m: Weights in a group, from 2.
        columns: See `NM`.
        chosen: Which equal slices of the outputs are pruned, see `Slices`; empty: all.
    """

    m: int
    columns: bool = False
    chosen: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if self.m < 2:
            raise ValueError(f"n:{self.m} leaves no choice")

    def __str__(self) -> str:
        return f"n:{self.m}{'col' if self.columns else ''}"

    def at(self, n: int) -> NM | Slices:
        """The pattern with this N, from 1 to M - 1."""
        pattern = NM(n, self.m, columns=self.columns)
        if not self.chosen:
            return pattern
        return Slices(tuple(pattern if open_ else None for open_ in self.chosen))

    def counts(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Zeros of a weight of this shape at N = M, M - 1, ..., 1; ascending."""
        return (0, *(self.at(n).most(shape) for n in range(self.m - 1, 0, -1)))

    def n_of(self, shape: tuple[int, ...], zeros: int) -> int:
        """The N that makes so many zeros; of several the largest.

        Raises:
            ValueError: None does.
        """
        counts = self.counts(shape)
        if zeros not in counts:
            raise ValueError(f"{zeros} zeros are no N of {self.m} of a weight of shape {shape}")
        return self.m - counts.index(zeros)

    def feasible(self, shape: tuple[int, ...], zeros: int, *, side: Side = "nearest") -> int:
        """See `Pattern`."""
        counts = self.counts(shape)
        if side == "down":
            return max(count for count in counts if count <= max(zeros, 0))
        if side == "up":
            return min((count for count in counts if count >= zeros), default=counts[-1])
        return min(counts, key=lambda count: (abs(count - zeros), count))

    def mask(self, score: Tensor, zeros: int, *, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`."""
        check_choice(pool, PoolName, name="pool")
        n = self.n_of(tuple(score.shape), operator.index(zeros))
        if score.numel() and bool(torch.isnan(score.max())):
            raise ValueError(f"a score of shape {tuple(score.shape)} is NaN")
        if n == self.m:
            return torch.ones_like(score, dtype=torch.bool)
        return self.at(n).whole_mask(score)

    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`."""
        return self.at(1).divides(shape)

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`: single weights, as many as can go."""
        return ((1, self.counts(shape)[-1]),)

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`: ones."""
        return torch.ones(shape, dtype=torch.int64).reshape(-1)

    def pooled(self, score: Tensor, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`: the scores themselves, flat."""
        check_choice(pool, PoolName, name="pool")
        return score.detach().reshape(-1)

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """See `Pattern`."""
        return keep.reshape(score.shape)

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        return units.reshape(shape)

    def norms(self, weight: Tensor) -> Tensor:
        """See `Pattern`: of whole groups of M, whatever N will be."""
        return self.at(1).norms(weight.detach())
