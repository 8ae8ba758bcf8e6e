"""Functional block pruning: three calls for a custom training loop.

    loss.backward()
    prune_gradient_with_magnitude(weights, ratio=0.9, pattern="4x1")
    group_lasso_regularize(weights, alpha, pattern="4x1")
    optimizer.step()
    lr_scheduler.step()
    prune_weights_with_magnitude(weights, ratio=0.9, pattern="4x1")

`weights` are the tensors to prune, all under one pattern; each gets the ratio separately, as the
nearest whole number of units. No state is kept: pruned weights are zero, so they stay smallest.
Under a `GradScaler` call `scaler.unscale_(optimizer)` after the backward pass, since alpha belongs
to true gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ws_learner.core import UserError, share_hint
from ws_learner.pruning.criteria import magnitude
from ws_learner.pruning.layers.no_units import refuse_no_units
from ws_learner.pruning.patterns.pattern import Pattern, PoolName, as_pattern

__all__ = [
    "add_group_lasso",
    "group_lasso_regularize",
    "prune_gradient_with_magnitude",
    "prune_weights_with_magnitude",
]


@torch.no_grad()
def prune_gradient_with_magnitude(
    weights: Iterable[Tensor],
    *,
    ratio: float,
    pattern: Pattern | str = "4x1",
    pool: PoolName = "mean",
) -> None:
    """Set the gradients of the units of smallest magnitude to zero, between backward and step.

    Args:
        weights: Tensors (O, I, *kernel); those without a gradient are left alone.
        ratio: Share of each tensor that is or will be zero, in [0, 1].
        pattern: The units, or their spelling.
        pool: How magnitudes are pooled over a unit.

    Raises:
        UserError: The ratio is outside [0, 1], or less than a unit of every tensor; or there is no
            such pattern.
    """
    graded = [weight for weight in weights if weight.grad is not None]
    units = _units(graded, ratio, pattern)
    for weight in graded:
        assert weight.grad is not None
        weight.grad.mul_(_mask(weight, ratio, units, pool).to(weight.grad.dtype))


def group_lasso_regularize(
    weights: Iterable[Tensor], alpha: float, *, pattern: Pattern | str = "4x1"
) -> None:
    """Add alpha w / ||w_unit|| to the gradients; 0 where a unit is all zero.

    Args:
        weights: Tensors (O, I, *kernel); those without a gradient are left alone.
        alpha: Strength, 0 or above.
        pattern: The units, or their spelling.
    """
    units = as_pattern(pattern)
    for weight in weights:
        add_group_lasso(weight, alpha, pattern=units)


@torch.no_grad()
def add_group_lasso(weight: Tensor, alpha: float, *, pattern: Pattern | str) -> None:
    """Add the sub-gradient of alpha x (sum of the units' norms) to one tensor's gradient."""
    if weight.grad is None or alpha == 0:
        return
    norms = as_pattern(pattern).norms(weight)
    force = weight.detach() / norms.masked_fill(norms == 0, 1)  # 0 / 1 where a unit is zero
    weight.grad.add_(force.to(weight.grad.dtype), alpha=alpha)


@torch.no_grad()
def prune_weights_with_magnitude(
    weights: Iterable[Tensor],
    *,
    ratio: float,
    pattern: Pattern | str = "4x1",
    pool: PoolName = "mean",
) -> None:
    """Set the units of smallest magnitude to zero, in place, after the step.

    Args:
        weights: Tensors (O, I, *kernel).
        ratio: Share of each tensor to set to zero, in [0, 1].
        pattern: The units, or their spelling.
        pool: How magnitudes are pooled over a unit.

    Raises:
        UserError: The ratio is outside [0, 1], or less than a unit of every tensor; or there is no
            such pattern.
    """
    given = list(weights)
    units = _units(given, ratio, pattern)
    for weight in given:
        weight.masked_fill_(~_mask(weight, ratio, units, pool), 0)


def _units(weights: Sequence[Tensor], ratio: float, pattern: Pattern | str) -> Pattern:
    """The pattern, if the ratio comes to a unit of it in at least one of the tensors."""
    if not 0 <= ratio <= 1:
        raise UserError(f"prune ratio {ratio}: allowed are 0 to 1{share_hint(ratio)}")
    units = as_pattern(pattern)
    shapes = [tuple(weight.shape) for weight in weights]
    if shapes:
        refuse_no_units(
            lambda share: sum(units.feasible(s, round(share * math.prod(s))) for s in shapes),
            ratio,
            total=sum(map(math.prod, shapes)),
            pattern=units,
            names=("x".join(map(str, shape)) for shape in shapes),
        )
    return units


def _mask(weight: Tensor, ratio: float, units: Pattern, pool: PoolName) -> Tensor:
    zeros = units.feasible(tuple(weight.shape), round(ratio * weight.numel()))
    return units.mask(magnitude(weight), zeros, pool=pool)
