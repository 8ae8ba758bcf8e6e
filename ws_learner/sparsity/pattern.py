"""Patterns: which weights live or die together.

A pattern cuts a tensor into units. Scores are pooled over each unit, and the units of the smallest
scores are pruned. A weight (O, I, *kernel) is looked at as a matrix (O, taps x I): a row per
output, and along it, for one kernel tap after the other, all inputs. Units never reach from one
row, or from one end of the matrix, into another; where a pattern does not divide a tensor, the
units at its edges are smaller ("padded").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.sparsity.grouped import Grouped, Pool, from_rows, geometry, to_rows
from ws_learner.sparsity.mask import keep_largest
from ws_learner.sparsity.spelling import read_spelling
from ws_learner.sparsity.tiles import Block, Channel, Heads
from ws_learner.sparsity.units import Classes, Side, merged

__all__ = ["NM", "Block", "Channel", "Heads", "Pattern", "Pool", "Unstructured", "parse_pattern"]


class Pattern(Protocol):
    """Turns the scores of single weights into a mask. Shapes are those of weights, outputs first.

    Frozen and hashable; `str` gives the canonical spelling.
    """

    def mask(self, score: Tensor, zeros: int, *, pool: Pool = "mean") -> Tensor:
        """Return a bool mask of the score's shape, True = kept, with `zeros` entries False.

        Among units of equal score the first in the order of `pooled` goes first.

        Raises:
            ValueError: No whole units make `zeros`, see `feasible`; or a score is NaN.
        """

    def feasible(self, shape: tuple[int, ...], zeros: int, *, side: Side = "nearest") -> int:
        """Return the number of zeros nearest to `zeros` that whole units can make.

        Args:
            shape: Of the weight.
            zeros: 0 or more.
            side: `down` allows no more than `zeros`, `up` no fewer unless there are no more units.
        """

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """Return (size, count) of the units that prune anything, one pair for each size."""

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """Return how many weights each of the U units prunes, (U,) int64."""

    def divides(self, shape: tuple[int, ...]) -> bool:
        """Return whether all units of a weight of this shape are whole."""

    def pooled(self, score: Tensor, pool: Pool = "mean") -> Tensor:
        """Return one score for each unit, (U,): mean, sum or max over the weights it prunes."""

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """Return the mask, of the score's shape, that keeps the units that `keep` (U,) keeps."""

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor of `shape` with each unit's value of `units` (U,) at all its places."""

    def norms(self, weight: Tensor) -> Tensor:
        """Return the Euclidean norm of each weight's unit, at the weight's place and shape."""


@dataclass(frozen=True)
class Unstructured:
    """Every weight stands alone."""

    def __str__(self) -> str:
        return "unstructured"

    def mask(self, score: Tensor, zeros: int, *, pool: Pool = "mean") -> Tensor:
        """Keep the largest scores; see `keep_largest`."""
        return keep_largest(score, zeros)

    def feasible(self, shape: tuple[int, ...], zeros: int, *, side: Side = "nearest") -> int:
        """See `Pattern`: any number."""
        return min(max(zeros, 0), math.prod(shape))

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`: all alike."""
        return ((1, math.prod(shape)),)

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`: ones."""
        return torch.ones(math.prod(shape), dtype=torch.int64)

    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`: always."""
        return True

    def pooled(self, score: Tensor, pool: Pool = "mean") -> Tensor:
        """See `Pattern`: the scores themselves, flat."""
        return score.detach().reshape(-1)

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """See `Pattern`."""
        return keep.reshape(score.shape)

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        return units.reshape(shape)

    def norms(self, weight: Tensor) -> Tensor:
        """See `Pattern`: absolute values."""
        return weight.detach().abs()


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
        if groups.device.type != "cpu":
            yield groups.T.contiguous()
            return
        for part in groups.split(_GROUPS):
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


def parse_pattern(text: str) -> Pattern:
    """The pattern of a name, see `read_spelling`. `mha` still lacks the number of heads.

    Example:
        >>> str(parse_pattern("tile_pattern_4x1")), parse_pattern("2in4")
        ('4x1', NM(n=2, m=4))

    Raises:
        UserError: It is no pattern.
    """
    spelling = read_spelling(text)
    if spelling.kind == "block":
        return Block(spelling.first, spelling.second)
    if spelling.kind == "n:m":
        return NM(spelling.first, spelling.second)
    if spelling.kind == "channelx1":
        return Channel("inputs")
    if spelling.kind == "1xchannel":
        return Channel("outputs")
    return Heads() if spelling.kind == "mha" else Unstructured()
