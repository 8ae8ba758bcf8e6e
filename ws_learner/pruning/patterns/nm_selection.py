"""Which weights of each group are kept: the N largest of M, the same on every device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["columns_of", "keep_of_groups", "keep_without_waiting", "smallest_of"]


def keep_of_groups(groups: Tensor, n: int) -> Tensor:
    """True for the n largest of each row of (U, M) scores; of equal ones the last are kept.

    The answer is that of a stable ascending sort, on every device; a NaN has no meaning here.
    """
    m = groups.shape[1]
    if m <= 4:
        return _by_counting(groups, n)
    if groups.device.type != "cpu":
        return keep_without_waiting(groups, n)
    if n == 1:
        least = groups.amax(1, keepdim=True)
    elif groups.dtype in (torch.float32, torch.float64):
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


def keep_without_waiting(groups: Tensor, n: int) -> Tensor:
    """`keep_of_groups` in few operations, whatever the scores: without a GPU synchronization.

    Repairing only the ties, as on a CPU, would wait for the GPU to count them.
    """
    m = groups.shape[1]
    if n == 1:
        last = m - 1 - groups.flip(1).argmax(1, keepdim=True)
        return torch.arange(m, device=groups.device) == last
    if m > _COUNTED:
        largest = torch.argsort(groups, dim=1, stable=True)[:, m - n :]
        return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, largest, True)
    parts = torch.split(groups, max(_COMPARED // m**2, 1))
    return torch.cat([_larger_than_most(part, n) for part in parts])


def _larger_than_most(groups: Tensor, n: int) -> Tensor:
    """Whether fewer than n of its group rank before it: larger, or equal and later."""
    own, other = groups[:, :, None], groups[:, None, :]
    later = torch.ones(groups.shape[1], groups.shape[1], dtype=torch.bool, device=groups.device)
    before = torch.where(later.triu(1), other >= own, other > own)
    return before.sum(2, dtype=torch.int8) < n


def _by_counting(groups: Tensor, n: int) -> Tensor:
    """Select by counting predecessors: fastest for small groups."""
    return torch.cat([~smallest_of(part, n).T for part in columns_of(groups)])


_GROUPS = 1 << 17  # groups that are looked at together
_COUNTED = 32  # longest groups whose weights are compared pair by pair
_COMPARED = 1 << 26  # pairs that are compared at once


def columns_of(groups: Tensor) -> Iterator[Tensor]:
    """(U, M) scores as (M, U), some groups at a time so that they stay in the cache."""
    if groups.device.type != "cpu" or groups.dtype not in (torch.float32, torch.float64):
        yield groups.T.contiguous()
        return
    for part in torch.split(groups, _GROUPS):
        yield torch.from_numpy(np.ascontiguousarray(part.T.numpy()))  # faster than PyTorch's


def smallest_of(columns: Tensor, n: int) -> Tensor:
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
