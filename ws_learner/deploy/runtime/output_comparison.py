"""Compare the outputs of two networks, whatever structure they return."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ws_learner.core import UserError

__all__ = ["differences", "distance", "first_tensor", "tensors_of"]

_NOTHING = 1e-6  # values of this size and below count as zero


def tensors_of(outputs: Any) -> Iterator[Tensor]:
    """All tensors of numbers with a fraction, in the order in which they are met."""
    if isinstance(outputs, Tensor):
        if outputs.is_complex():
            yield torch.view_as_real(outputs)
        elif outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, Mapping):
        yield from tensors_of(list(outputs.values()))
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str | bytes):
        for part in outputs:
            yield from tensors_of(part)
    elif dataclasses.is_dataclass(outputs) and not isinstance(outputs, type):
        yield from tensors_of([getattr(outputs, f.name) for f in dataclasses.fields(outputs)])


def first_tensor(outputs: Any) -> Tensor:
    """The first of them.

    Raises:
        UserError: There is none.
    """
    for tensor in tensors_of(outputs):
        return tensor
    raise UserError(f"the model's outputs hold no tensor to compare: {type(outputs).__name__}")


def distance(got: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Norm of the difference, and of `wanted`, over what is finite; infinite if that differs."""
    if got.shape != wanted.shape:
        return math.inf, 0.0
    finite = torch.isfinite(wanted)
    if not torch.equal(finite, torch.isfinite(got)):
        return math.inf, 0.0
    a, b = got[finite].double(), wanted[finite].double()
    return float((a - b).norm()), float(b.norm())


def differences(pairs: Iterable[tuple[Any, Any]]) -> dict[str, float]:
    """Compare outputs (got, wanted), batch by batch.

    Returns:
        `relative_error`, the norm of a tensor's differences over that of what was wanted, the
        largest of all tensors', and
        `same_class`, the share of equal answers where the first tensor is (B, classes).

    Raises:
        UserError: There is nothing to compare.
    """
    moved: list[float] = []
    sizes: list[float] = []
    same = count = 0.0
    for got, wanted in pairs:
        ours, theirs = list(tensors_of(got)), list(tensors_of(wanted))
        if not theirs:
            first_tensor(wanted)
        if len(ours) != len(theirs):
            return {"relative_error": math.inf}
        moved += [0.0] * (len(theirs) - len(moved))
        sizes += [0.0] * (len(theirs) - len(sizes))
        for place, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            error, norm = distance(a, b)
            moved[place] += error**2
            sizes[place] += norm**2 + b.numel() * _NOTHING**2
        if theirs[0].dim() == 2 and theirs[0].shape[1] > 1 and ours[0].shape == theirs[0].shape:
            same += float((theirs[0].argmax(1) == ours[0].argmax(1)).sum())
            count += len(theirs[0])
    worst = max((math.sqrt(a / b) for a, b in zip(moved, sizes, strict=True) if b), default=0.0)
    return {"relative_error": worst} | ({"same_class": same / count} if count else {})
