"""Which part of a weight a matrix product reads, and with what."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ws_learner.pruning.layers.tracked_weights import Operand
from ws_learner.pruning.layers.watched import Watched
from ws_learner.pruning.patterns.layout import Layout

__all__ = ["Rows", "rows_of"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a weight that read vectors.

    Attributes:
        groups: (S, K) groups of the weight that read each of the S matrices of vectors.
        columns: (C,) inputs of the weight that the vectors hold.
        inputs: (S, N, C) the vectors.
        time_first: Whether N runs through the steps of a sequence first, then the examples.
    """

    groups: Tensor
    columns: Tensor
    inputs: Tensor
    time_first: bool = False


def rows_of(
    weight: Watched, operand: Operand, left: Tensor, right: Tensor, *, first: bool
) -> Rows | None:
    """What a product `left @ right` reads of a weight that is one of the factors.

    An unknown layout is learnt.

    Args:
        weight: The weight.
        operand: The factor that shows it.
        left: First factor, (..., rows, contracted).
        right: Second factor, (..., contracted, columns), or a vector.
        first: Whether the weight is the first factor.

    Returns:
        None where the product runs along the weight's outputs, as in a tied decoder.
    """
    shown = operand.tensor if first else operand.tensor.transpose(-1, -2)  # (..., outputs, C)
    other = right if first else left
    vectors = other[:, None] if other.dim() == 1 else other
    vectors = vectors.transpose(-1, -2) if first else vectors
    if shown.dim() == 2:
        shown, vectors = shown[None], vectors[None]
    stack, outputs, inputs = shown.shape
    if not shown.numel():
        return None
    view = operand.of(shown)
    zero = torch.zeros((), dtype=torch.int64)
    along = view.at(zero, zero, torch.arange(inputs))
    down = view.at(torch.arange(stack)[:, None], torch.arange(outputs)[None], zero)
    shape = tuple(weight.parameter.shape)
    if not weight.layout.known:
        learnt = _learnt(along, down, shape)
        if learnt is None:
            return None
        weight.layout = learnt
    own, columns = weight.layout.place(along, shape)
    rows, fixed = weight.layout.place(down, shape)
    if bool((own != own[0]).any()) or bool((fixed != fixed[0, 0]).any()):
        return None
    per_group = weight.layout.shape(shape)[0] // weight.layout.groups
    groups = [torch.unique(each) for each in rows // per_group]
    if len({len(each) for each in groups}) > 1:
        return None
    return Rows(torch.stack(groups), columns, vectors)


def _learnt(along: Tensor, down: Tensor, shape: tuple[int, ...]) -> Layout | None:
    """The layout in which a product runs along the inputs.

    Args:
        along: (C,) positions that are contracted.
        down: (S, O) positions of the outputs.
        shape: Of the weight.
    """
    if len(shape) not in (2, 3):
        return None
    stack = "e" if len(shape) == 3 else ""
    groups = shape[0] if stack else 1
    for axes in ("oi", "io"):
        step = 1 if axes == "oi" else shape[-1]
        across = shape[-1] if axes == "oi" else 1
        fits = len(along) == 1 or bool((along.diff() == step).all())
        fits &= down.shape[1] == 1 or int(down[0, 1] - down[0, 0]) == across
        if fits:
            return Layout(stack + axes, groups)
    return None
