"""Masks with an exact number of zeros. True = kept, False = pruned, here and everywhere."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ws_learner.core import smallest_at

__all__ = ["count_zeros", "keep_largest", "sparsity"]

_LARGE = 1 << 20
"""Entries above which a copy for the selection would take too much memory."""

_PART = 1 << 18


def keep_largest(score: Tensor, zeros: int) -> Tensor:
    """Prune exactly `zeros` entries, those with the smallest scores.

    Among equal scores the lowest flat (row-major) index is pruned first, so the answer is the same
    on every device: the first `zeros` positions of a stable ascending sort.

    Args:
        score: Any shape; floating or integer. Infinities are fine, NaN is not.
        zeros: Number of entries to prune, in [0, score.numel()].

    Returns:
        Bool tensor of the same shape and device.

    Raises:
        ValueError: `zeros` is out of range, or a score is NaN.
    """
    zeros = operator.index(zeros)
    if not 0 <= zeros <= score.numel():
        raise ValueError(f"zeros {zeros} is outside [0, {score.numel()}] for shape {_shape(score)}")
    if score.numel() and bool(torch.isnan(score.max())):  # max() hands a NaN on
        raise ValueError(f"a score of shape {_shape(score)} is NaN; has the training diverged?")
    if zeros in (0, score.numel()):
        return torch.full(score.shape, zeros == 0, dtype=torch.bool, device=score.device)
    flat = score.detach().reshape(-1)
    threshold = _smallest(flat, zeros)
    keep = flat > threshold
    surplus = flat.numel() - int(torch.count_nonzero(keep)) - zeros
    if surplus:  # more entries equal the threshold than may go: the last of them stay
        ties = torch.nonzero(flat == threshold).squeeze(1)
        keep[ties[-surplus:]] = True
    return keep.reshape(score.shape)


def _smallest(flat: Tensor, rank: int) -> Tensor:
    """Return the `rank`-th smallest value (1 = the smallest) without sorting everything."""
    if flat.device.type != "cpu":  # top-k spreads over a GPU, kthvalue runs in one block of it
        return torch.topk(flat, rank, largest=False, sorted=False).values.max()
    if flat.numel() > _LARGE and flat.dtype.is_floating_point:  # without a copy
        return torch.tensor(_by_counting(flat, rank), dtype=flat.dtype)
    if flat.dtype in (torch.float16, torch.bfloat16):
        return _smallest(flat.float(), rank).to(flat.dtype)
    # NumPy's selection is several times faster here than torch.kthvalue.
    return torch.from_numpy(np.partition(flat.numpy(), rank - 1)[rank - 1 : rank])[0]


def _by_counting(flat: Tensor, rank: int) -> float:
    wide = torch.float64 if flat.dtype == torch.float64 else torch.float32
    return smallest_at(
        lambda: (part.to(wide).numpy() for part in torch.split(flat, _PART)),
        rank,
        np.float64 if wide == torch.float64 else np.float32,
    )


def count_zeros(tensor: Tensor) -> int:
    """Number of entries that are exactly zero, or False."""
    return tensor.numel() - int(torch.count_nonzero(tensor))


def sparsity(tensors: Iterable[Tensor]) -> float:
    """Share of zeros over all entries of all tensors, in [0, 1]; 0 if there are none."""
    zeros = total = 0
    for tensor in tensors:
        zeros += count_zeros(tensor)
        total += tensor.numel()
    return zeros / total if total else 0.0


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
