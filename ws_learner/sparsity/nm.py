"""N:M patterns: groups of M weights of which N are kept, in many forms."""

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

__all__ = ["NM", "Slices", "keep_of_groups"]


def keep_of_groups(groups: Tensor, n: int) -> Tensor:
    """True for the n largest of each row of (U, M) scores; of equal ones the last are kept.

    The answer is that of a stable ascending sort, on every device; a NaN has no meaning here.
    """
    m = groups.shape[1]
    if m <= 4:
        return _by_counting(groups, n)
    if n == 1:
        least = groups.amax(1, keepdim=True)
    elif groups.device.type == "cpu" and groups.dtype in (torch.float32, torch.float64):
        # NumPy's selection is several times faster here than torch.topk.
        least = torch.from_numpy(np.partition(groups.numpy(), m - n, axis=1)[:, m - n : m - n + 1])
    else:
        least = torch.topk(groups, n, dim=1).values[:, -1:]
    keep = groups >= least
    tied = torch.nonzero(keep.sum(1) > n).squeeze(1)
    if len(tied):
        gone = torch.argsort(groups[tied], dim=1, stable=True)[:, : m - n]
        keep[tied] = torch.ones_like(keep[tied]).scatter_(1, gone, False)
    return keep


def _by_counting(groups: Tensor, n: int) -> Tensor:
    """Counts who comes before: for few weights in a group the fastest."""
    return torch.cat([~_smallest(part, n).T for part in _columns(groups)])


_GROUPS = 1 << 17  # groups that are looked at together


def _columns(groups: Tensor) -> Iterator[Tensor]:
    """(U, M) scores as (M, U), some groups at a time so that they stay in the cache."""
    if groups.device.type != "cpu" or groups.dtype not in (torch.float32, torch.float64):
        yield groups.T.contiguous()
        return
    for part in torch.split(groups, _GROUPS):
        yield torch.from_numpy(np.ascontiguousarray(part.T.numpy()))  # faster than PyTorch's


def _smallest(columns: Tensor, n: int) -> Tensor:
    """True for the M - n smallest of each column of (M, U); of equal ones the first go first."""
    m = len(columns)
    if m > 8:
        return ~keep_of_groups(columns.T.contiguous(), n).T
    # Counting who comes before is faster than sorting: all earlier ones, but for the larger.
    before = torch.zeros(columns.shape, dtype=torch.int8, device=columns.device)
    for late in range(1, m):
        for early in range(late):
            first = (columns[early] <= columns[late]).view(torch.int8)
            before[late] += first
            before[early] -= first
    later = torch.arange(m - 1, -1, -1, dtype=torch.int8, device=columns.device)
    return before < (m - n - later)[:, None]


@dataclass(frozen=True)
class NM(Grouped):
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

    def pooled(self, score: Tensor, pool: Pool = "mean") -> Tensor:
        """See `Pattern`."""
        parts = _columns(self._groups(score, padding=-math.inf))
        return torch.cat([self._pooled(part, _smallest(part, self.n), pool) for part in parts])

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
        parts = _columns(self._groups(score, padding=-math.inf))
        return self._mask(keep, [_smallest(part, self.n) for part in parts], tuple(score.shape))

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

    def pruned(self, score: Tensor, zeros: int, pool: Pool) -> Tensor:
        """See `Grouped`: who is smallest in a group is found once."""
        shape = tuple(score.shape)
        if zeros == 0:
            return torch.ones_like(score, dtype=torch.bool)
        if zeros == self.most(shape):
            return self.whole_mask(score)
        pooled, gone = [], []
        for part in _columns(self._groups(score, padding=-math.inf)):
            gone.append(_smallest(part, self.n))
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


@dataclass(frozen=True)
class Slices(Grouped):
    """Equal slices of a weight's outputs with an N:M pattern each, or none: q, k, v in one weight.

    Groups never reach from one slice into the next.

    Attributes:
        parts: The slices in order; None stays dense.
    """

    parts: tuple[NM | None, ...]

    def __str__(self) -> str:
        return "/".join("dense" if part is None else str(part) for part in self.parts)

    def rows(self, outputs: int) -> list[slice]:
        """Outputs of each slice.

        Raises:
            ValueError: They cannot be divided evenly.
        """
        if outputs % len(self.parts):
            raise ValueError(f"{outputs} outputs are no {len(self.parts)} equal slices")
        step = outputs // len(self.parts)
        return [slice(start, start + step) for start in range(0, outputs, step)]

    def _each(self, shape: tuple[int, ...]) -> Iterator[tuple[NM, slice, tuple[int, ...]]]:
        """Pattern, outputs and shape of each slice that has a pattern."""
        for part, rows in zip(self.parts, self.rows(shape[0]), strict=True):
            if part is not None:
                yield part, rows, (rows.stop - rows.start, *shape[1:])

    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`."""
        return all(part.divides(own) for part, _, own in self._each(shape))

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`."""
        return merged(pair for part, _, own in self._each(shape) for pair in part.classes(own))

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        return torch.cat([part.sizes(own) for part, _, own in self._each(shape)])

    def pooled(self, score: Tensor, pool: Pool = "mean") -> Tensor:
        """See `Pattern`."""
        each = self._each(tuple(score.shape))
        return torch.cat([part.pooled(score[rows], pool) for part, rows, _ in each])

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """See `Pattern`."""
        mask = torch.ones_like(score, dtype=torch.bool)
        for part, rows, own in self._each(tuple(score.shape)):
            units, keep = keep[: len(part.sizes(own))], keep[len(part.sizes(own)) :]
            mask[rows] = part.expand(units, score[rows])
        return mask

    def whole_mask(self, score: Tensor) -> Tensor:
        """The mask with every group pruned; of the score's shape, True = kept."""
        mask = torch.ones_like(score, dtype=torch.bool)
        for part, rows, _ in self._each(tuple(score.shape)):
            mask[rows] = part.whole_mask(score[rows])
        return mask

    def norms(self, weight: Tensor) -> Tensor:
        """See `Pattern`: 0 where there is no pattern."""
        norms = torch.zeros_like(weight)
        for part, rows, _ in self._each(tuple(weight.shape)):
            norms[rows] = part.norms(weight[rows])
        return norms

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`: 0 where there is no pattern."""
        values = torch.zeros(shape, dtype=units.dtype, device=units.device)
        for part, rows, own in self._each(shape):
            mine, units = units[: len(part.sizes(own))], units[len(part.sizes(own)) :]
            values[rows] = part.spread(mine, own)
        return values
