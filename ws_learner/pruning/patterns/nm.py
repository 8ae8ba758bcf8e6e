"""N:M patterns: groups of M weights of which N are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.core import check_choice
from ws_learner.pruning.patterns.group_base import (
    GroupedPattern,
    PoolName,
    from_rows,
    geometry,
    to_rows,
)
from ws_learner.pruning.patterns.nm_selection import columns_of, keep_of_groups, smallest_of
from ws_learner.pruning.patterns.unit_counts import Classes, merged

__all__ = ["NM"]


@dataclass(frozen=True)
class NM(GroupedPattern):
    """N of M consecutive inputs are kept, at each kernel tap (Mishra et al. 2021; here N is kept).

    A unit is one group of M inputs; pruning it prunes the M - N smallest scores of the group, and
    groups that are not pruned stay dense. So a tensor has at most (M - N) / M zeros. In a group of
    r < M inputs at the end of a row, r - N are pruned if that is above 0.

    Attributes:
        n: Weights kept, 0 < n < m.
        m: Weights in a group.
        columns: Groups run along the outputs instead; a weight with a kernel takes no notice.
    """

    n: int
    m: int
    columns: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise ValueError(f"{self.n}:{self.m} must keep more than none and fewer than all")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}{'col' if self.columns else ''}"

    def _geometry(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(rows, taps, weights along a row)."""
        outputs, taps, inputs = geometry(shape)
        turned = self.columns and len(shape) == 2
        return (inputs, taps, outputs) if turned else (outputs, taps, inputs)

    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`: whether M divides the inputs."""
        return self._geometry(shape)[2] % self.m == 0

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`."""
        outputs, taps, inputs = self._geometry(shape)
        whole, rest = divmod(inputs, self.m)
        places = outputs * taps
        return merged([(self.m - self.n, whole * places), (max(rest - self.n, 0), places)])

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        outputs, taps, inputs = self._geometry(shape)
        row = torch.full((-(-inputs // self.m),), self.m - self.n, dtype=torch.int64)
        if inputs % self.m:
            row[-1] = max(inputs % self.m - self.n, 0)
        return row.repeat(outputs * taps)

    def pooled(self, score: Tensor, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`."""
        check_choice(pool, PoolName, name="pool")
        parts = columns_of(self._groups(score, padding=-math.inf))
        return torch.cat([self._pooled(part, smallest_of(part, self.n), pool) for part in parts])

    def _pooled(self, columns: Tensor, gone: Tensor, pool: PoolName) -> Tensor:
        """(U,) of (M, U) scores, over those that would go."""
        if pool == "max":
            return torch.where(gone, columns, -math.inf).amax(0)
        total = columns[0] * gone[0]
        for place, here in zip(columns[1:], gone[1:], strict=True):
            total += place * here
        if bool(torch.isfinite(total.sum())):
            return total / (self.m - self.n) if pool == "mean" else total
        # Padding is -inf and always among the smallest; it counts for nothing.
        there = gone & (columns != -math.inf)
        count = there.sum(0)
        total = torch.where(there, columns, 0).sum(0)
        pooled = total / count if pool == "mean" else total
        return pooled.masked_fill_(count == 0, math.inf)

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """See `Pattern`."""
        parts = columns_of(self._groups(score, padding=-math.inf))
        return self._mask(keep, [smallest_of(part, self.n) for part in parts], tuple(score.shape))

    def whole_mask(self, score: Tensor) -> Tensor:
        """The mask with every group pruned; of the score's shape, True = kept."""
        groups = self._groups(score, padding=-math.inf)
        return self._back(keep_of_groups(groups, self.n), tuple(score.shape))

    def _mask(self, keep: Tensor, gone: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Prune what would go of the groups that are not kept whole."""
        kept, start = [], 0
        for part in gone:
            stop = start + part.shape[1]
            kept.append((keep[start:stop] | ~part).T.contiguous())
            start = stop
        return self._back(torch.cat(kept), shape)

    def pruned(self, score: Tensor, zeros: int, pool: PoolName) -> Tensor:
        """See `GroupedPattern`: who is smallest in a group is found once."""
        shape = tuple(score.shape)
        if zeros == 0:
            return torch.ones_like(score, dtype=torch.bool)
        if zeros == self.most(shape):
            return self.whole_mask(score)
        pooled, gone = [], []
        for part in columns_of(self._groups(score, padding=-math.inf)):
            gone.append(smallest_of(part, self.n))
            pooled.append(self._pooled(part, gone[-1], pool))
        return self._mask(self.keep(torch.cat(pooled), zeros, shape), gone, shape)

    def norms(self, weight: Tensor) -> Tensor:
        """See `Pattern`: of whole groups of M."""
        groups = self._groups(weight, padding=0.0)
        return self.spread(torch.linalg.vector_norm(groups, dim=1), tuple(weight.shape))

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`: at all M places."""
        return self._back(units[:, None].expand(-1, self.m), shape)

    def _groups(self, values: Tensor, *, padding: float) -> Tensor:
        """The values as (U, M), inputs innermost."""
        outputs, taps, inputs = self._geometry(tuple(values.shape))
        turned = values.T if self.columns and values.ndim == 2 else values
        rows = to_rows(turned.detach()).reshape(outputs * taps, inputs)
        if lacking := -inputs % self.m:
            rows = functional.pad(rows, (0, lacking), value=padding)
        return rows.reshape(-1, self.m)

    def _back(self, groups: Tensor, shape: tuple[int, ...]) -> Tensor:
        outputs, taps, inputs = self._geometry(shape)
        rows = groups.reshape(outputs * taps, -1)[:, :inputs]
        if self.columns and len(shape) == 2:
            return rows.T
        return from_rows(rows.reshape(outputs, taps * inputs), shape)
