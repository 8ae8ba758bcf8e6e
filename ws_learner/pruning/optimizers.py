"""What a step hook must know of optimizers: their wrappers, their state, a gradient scaler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ws_learner.core import UserError

__all__ = ["state_of", "step_is_skipped", "unscale_gradients", "unwrap_optimizer"]

_INNER = ("optimizer", "_optimizer", "optim")


def unwrap_optimizer(optimizer: Any) -> Optimizer:
    """Return the optimizer below wrappers that cannot carry step hooks themselves.

    accelerate's `AcceleratedOptimizer`, `LightningOptimizer` and others like them keep the real
    optimizer as an attribute and call its `step`, or leave it out. A wrapper with hooks of its
    own, such as `ZeroRedundancyOptimizer`, is returned as it is: it changes weights after the
    optimizer inside has stepped.

    Raises:
        UserError: There is no optimizer with step hooks.
    """
    found, seen = optimizer, set[int]()
    while "_optimizer_step_pre_hooks" not in getattr(found, "__dict__", {}):
        seen.add(id(found))
        inner = next((i for n in _INNER if (i := getattr(found, n, None)) is not None), None)
        if inner is None or id(inner) in seen:
            raise UserError(
                f"`optimizer` {type(optimizer).__name__}: has no step hooks, and no optimizer "
                f"inside ({', '.join(_INNER)}) has; give the torch.optim.Optimizer that it calls"
            )
        found = inner
    return found  # type: ignore[no-any-return]


def state_of(optimizer: Optimizer) -> dict[Tensor, Any]:
    """Return the state by parameter, where `ZeroRedundancyOptimizer` keeps it, too."""
    inner = getattr(optimizer, "optim", None)
    return (inner if isinstance(inner, Optimizer) else optimizer).state


def step_is_skipped(optimizer: Optimizer) -> bool:
    """Whether the step that has begun will change nothing, because gradients overflowed.

    A `GradScaler` does not call the step of most optimizers then. Fused ones are called all the
    same and skip the step themselves. Reading the flag makes a GPU wait once per step.
    """
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found)


@torch.no_grad()
def unscale_gradients(optimizer: Optimizer) -> None:
    """Divide the gradients by the scale that a fused optimizer would divide by in its step."""
    scale = getattr(optimizer, "grad_scale", None)
    if not isinstance(scale, Tensor):
        return
    by_device: dict[torch.device, list[Tensor]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_device.setdefault(parameter.device, []).append(parameter.grad)
    inverse = scale.double().reciprocal().to(scale.dtype)  # as `GradScaler.unscale_` has it
    for device, gradients in by_device.items():
        torch._foreach_mul_(gradients, inverse.to(device))
    optimizer.grad_scale = torch.ones_like(scale)  # type: ignore[attr-defined]
