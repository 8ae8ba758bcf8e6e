"""Step hooks of an optimizer: closures, and steps under a `GradScaler`."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.core import UserError

__all__ = ["Arguments", "OptimizerSteps"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class _Open:
    """A step between its hooks: what is put back after it."""

    optimizer: Optimizer
    counts: bool = True
    inner: int = 0
    scale: Any = None
    hidden: list[tuple[nn.Parameter, Tensor]] = field(default_factory=list)


class OptimizerSteps:
    """Calls a function with the true gradients of each step that counts, whatever the loop.

    For most optimizers `torch.amp.GradScaler` divides the gradients by its scale before the step,
    and leaves a step out if a gradient overflowed. A fused Adam, AdamW or SGD does both itself: it
    is called with the attributes `grad_scale` and `found_inf`. Hooks would see scaled gradients,
    and steps that never happen. So gradients are divided here, in place as the fused kernel does
    it, and a step that is left out finds no gradients at all (the fused SGD would begin its
    momentum with whatever lies in memory). To know that costs a wait for the GPU, as it does for
    all other optimizers under a scaler. Gradients in float16, which a scaler refuses to divide,
    lose what is below 6e-8.

    A step within a step is a part of it: hooks also run when a class calls the `step` of its
    parent class, or a wrapper that of the optimizer in it.
    """

    def __init__(self) -> None:
        self._now: _Open | None = None

    def begin(
        self,
        optimizer: Optimizer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        edit: Callable[[int], object],
    ) -> Arguments | None:
        """To be called, and its result returned, in a pre-hook.

        Args:
            optimizer: As the hook gets it.
            args: As the hook gets it.
            kwargs: As the hook gets it.
            edit: Called once the step's gradients are there, not scaled: with 0 before the step,
                or with 1, 2 ... after each call of its closure.

        Raises:
            UserError: A closure under a scaler, or the optimizer takes the scaler itself.
        """
        if self._now is not None and _is_running(self._now.optimizer):
            self._now.inner += 1
            return None
        if "grad_scaler" in kwargs:
            raise UserError(
                f"{type(optimizer).__name__}: its `step` takes a `grad_scaler` and unscales the "
                "gradients out of sight; step it without a GradScaler, in bfloat16 for instance"
            )
        closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
        scale, found = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        if closure is not None and (scale is not None or found is not None):
            raise UserError(
                "`closure` under a GradScaler: its gradients would stay scaled; run the backward "
                "pass before `scaler.step(optimizer)` and give no closure"
            )
        step = self._now = _Open(optimizer)
        if found is not None and float(found) > 0:
            step.counts = False
            for parameter, grad in _gradients(optimizer):
                step.hidden.append((parameter, grad))
                parameter.grad = None
            return None
        if scale is not None:
            _divide([grad for _, grad in _gradients(optimizer)], scale)
            step.scale, optimizer.grad_scale = scale, None  # type: ignore[attr-defined]
        if closure is None:
            edit(0)
            return None
        return args[:1], {**kwargs, "closure": _edited(closure, edit)}

    @property
    def counts(self) -> bool:
        """Whether the step that has begun will be made."""
        return self._now is None or self._now.counts

    @property
    def was_scaled(self) -> bool:
        """Whether the gradients of the step that has begun were scaled before it."""
        return self._now is not None and self._now.scale is not None

    def end(self, optimizer: Optimizer) -> bool:
        """To be called in a post-hook: puts back what `begin` changed; whether the step counts."""
        step = self._now
        if step is None:
            return True
        if step.inner:
            step.inner -= 1
            return False
        self._now = None
        for parameter, grad in step.hidden:
            parameter.grad = grad
        if step.scale is not None:
            optimizer.grad_scale = step.scale  # type: ignore[attr-defined]
        return step.counts


_STEP = Optimizer.profile_hook_step(lambda optimizer: None).__code__
"""Of the function around each optimizer's `step` that calls the hooks."""


def _is_running(optimizer: Optimizer) -> bool:
    """Whether a step of `optimizer` is being made around the one whose hook this is.

    A step that failed left no trace but its call frame, which is gone.
    """
    frame, steps = sys._getframe(), 0
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        if frame.f_code is _STEP:
            steps += 1
            if steps > 1 and frame.f_locals.get("self") is optimizer:
                return True
    return False


def _edited(closure: Callable[[], Any], edit: Callable[[int], object]) -> Callable[[], Any]:
    calls = 0

    def edited() -> Any:
        nonlocal calls
        loss = closure()
        calls += 1
        edit(calls)
        return loss

    return edited


def _gradients(optimizer: Optimizer) -> list[tuple[nn.Parameter, Tensor]]:
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    return [(p, p.grad) for p in parameters if p.grad is not None]


@torch.no_grad()
def _divide(grads: list[Tensor], scale: Tensor | float) -> None:
    factor = (
        torch.as_tensor(scale).reshape(()).double().reciprocal().float()
    )  # as `GradScaler.unscale_`
    alike: Mapping[tuple[torch.device, torch.dtype], list[Tensor]] = defaultdict(list)
    for grad in grads:
        alike[grad.device, grad.dtype].append(grad)
    for (device, _), part in alike.items():
        torch._foreach_mul_(part, factor.to(device))
