"""N:M: of every M consecutive inputs N are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.sparsity.grouped import Grouped, Pool, from_rows, geometry, to_rows
from ws_learner.sparsity.units import Classes, merged

__all__ = ["NM"]

_GROUPS = 1 << 17  # groups of M that are looked at together


@dataclass(frozen=True)
class NM(Grouped):
    """N of M consecutive inputs are kept, at each kernel tap (Mishra et al. 2021; here N is kept).

    A unit is one group of M inputs; pruning it prunes the M - N smallest scores of the group, and
    groups that are not pruned stay dense. So a tensor has at most (M - N) / M zeros. In a group of
    r < M inputs at the end of a row, r - N are pruned if that is above 0.

    Attributes:
        n: Weights kept, 0 < n < m.
        m: Weights in a group.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise ValueError(f"{self.n}:{self.m} must keep more than none and fewer than all")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`: whether M divides the inputs."""
        return geometry(shape)[2] % self.m == 0

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`."""
        outputs, taps, inputs = geometry(shape)
        whole, rest = divmod(inputs, self.m)
        places = outputs * taps
        return merged([(self.m - self.n, whole * places), (max(rest - self.n, 0), places)])

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        outputs, taps, inputs = geometry(shape)
        row = torch.full((-(-inputs // self.m),), self.m - self.n, dtype=torch.int64)
        if inputs % self.m:
            row[-1] = max(inputs % self.m - self.n, 0)
        return row.repeat(outputs * taps)

    def pooled(self, score: Tensor, pool: Pool = "mean") -> Tensor:
        """See `Pattern`."""
        parts = self._parts(score)
        return torch.cat([self._pooled(part, self._smallest(part), pool) for part in parts])

    def _pooled(self, columns: Tensor, gone: Tensor, pool: Pool) -> Tensor:
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
        gone = [self._smallest(part) for part in self._parts(score)]
        return self._mask(keep, gone, tuple(score.shape))

    def _mask(self, keep: Tensor | None, gone: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Prune what would go of the groups that are not kept whole; None: of every group."""
        kept, start = [], 0
        for part in gone:
            stop = start + part.shape[1]
            stay = ~part if keep is None else keep[start:stop] | ~part
            kept.append(stay.T.contiguous())
            start = stop
        return self._back(torch.cat(kept), shape)

    def chosen(self, score: Tensor, zeros: int, pool: Pool) -> Tensor:
        """See `Grouped`: who is smallest in a group is found once."""
        shape = tuple(score.shape)
        if zeros == 0:
            return torch.ones_like(score, dtype=torch.bool)
        if zeros == self.most(shape):
            return self._mask(None, [self._smallest(part) for part in self._parts(score)], shape)
        pooled, gone = [], []
        for part in self._parts(score):
            gone.append(self._smallest(part))
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
        outputs, taps, inputs = geometry(tuple(values.shape))
        rows = to_rows(values.detach()).reshape(outputs * taps, inputs)
        if lacking := -inputs % self.m:
            rows = functional.pad(rows, (0, lacking), value=padding)
        return rows.reshape(-1, self.m)

    def _back(self, groups: Tensor, shape: tuple[int, ...]) -> Tensor:
        outputs, taps, inputs = geometry(shape)
        rows = groups.reshape(outputs * taps, -1)[:, :inputs]
        return from_rows(rows.reshape(outputs, taps * inputs), shape)

    def _parts(self, score: Tensor) -> Iterator[Tensor]:
        """The scores as (M, U), some groups at a time so that they stay in the cache."""
        groups = self._groups(score, padding=-math.inf)
        if groups.device.type != "cpu" or groups.dtype == torch.bfloat16:  # unknown to NumPy
            yield groups.T.contiguous()
            return
        for start in range(0, len(groups), _GROUPS):
            part = groups[start : start + _GROUPS]
            yield torch.from_numpy(np.ascontiguousarray(part.T.numpy()))  # faster than PyTorch's

    def _smallest(self, columns: Tensor) -> Tensor:
        """True for the M - N smallest of each column; of equal ones the first go first."""
        gone = self.m - self.n
        if self.m > 8:
            order = torch.argsort(columns, dim=0, stable=True)[:gone]
            return torch.zeros_like(columns, dtype=torch.bool).scatter_(0, order, True)
        # Counting who comes before is faster than sorting: all earlier ones, but for the larger.
        before = torch.zeros(columns.shape, dtype=torch.int8, device=columns.device)
        for late in range(1, self.m):
            for early in range(late):
                first = (columns[early] <= columns[late]).view(torch.int8)
                before[late] += first
                before[early] -= first
        later = torch.arange(self.m - 1, -1, -1, dtype=torch.int8, device=columns.device)
        return before < (gone - later)[:, None]
