"""Wrappers of optimizers: the one that carries step hooks, and the one that has the state."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ws_learner.core import UserError

__all__ = ["state_of", "unwrap_optimizer"]

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
