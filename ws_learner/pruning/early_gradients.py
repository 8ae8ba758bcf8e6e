"""Gradients as they were before `Sparsifier.mask_gradients`, for criteria that read them later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["EarlyGradients"]


class EarlyGradients:
    """Copies of gradients that are edited before the optimizer's step.

    A criterion learns from a step only once it happens: a scaler may leave it out. Until then the
    gradients of pruned weights, which some criteria need, live here. What clipping does to the
    rest of a tensor's gradient, measured by its norm, is done to the copy too.
    """

    def __init__(self) -> None:
        self._copies: dict[str, tuple[Tensor, Tensor]] = {}  # the gradient itself, its copy
        self._norms: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._versions)

    def clear(self) -> None:
        """Forget everything: the step is done."""
        self._copies, self._norms, self._versions = {}, {}, {}

    @torch.no_grad()
    def keep(self, weights: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor]) -> None:
        """Copy the gradients, except those that were edited already."""
        for name, weight in weights.items():
            if weight.grad is not None and not self._was_edited(name, weight.grad, masks[name]):
                self._copies[name] = weight.grad, weight.grad.clone()
                self._norms.pop(name, None)

    def _was_edited(self, name: str, grad: Tensor, mask: Tensor) -> bool:
        if name not in self._norms or self._copies[name][0] is not grad:
            return False
        if grad._version == self._versions[name]:
            return True
        # Changed since: by clipping, after which pruned weights still have no gradient, or anew.
        return not bool(mask.all()) and not bool((grad != 0).gt(mask).any())

    @torch.no_grad()
    def edited(self) -> None:
        """The gradients have been edited now."""
        for name, (grad, _) in self._copies.items():
            if name not in self._norms:
                self._norms[name] = torch.linalg.vector_norm(grad)
            self._versions[name] = grad._version

    @contextmanager
    def in_place(self, weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """Let the weights have their unedited gradients meanwhile; copies are dropped then."""
        edited: list[tuple[nn.Parameter, Tensor]] = []
        for name, (grad, copy) in self._copies.items():
            weight = weights[name]
            if weight.grad is grad and name in self._norms:
                before, now = self._norms[name], torch.linalg.vector_norm(grad)
                edited.append((weight, grad))
                weight.grad = copy.mul_(torch.where(before > 0, now / before, 1.0))
        try:
            yield
        finally:
            for weight, grad in edited:
                weight.grad = grad
            self.clear()
