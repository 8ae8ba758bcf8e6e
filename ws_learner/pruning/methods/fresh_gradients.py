"""Which gradients have not been edited yet, so that a term is added to each once."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ["FreshGradients"]


class FreshGradients:
    """Remembers the gradients that got their terms since the last step."""

    def __init__(self) -> None:
        self._edited: dict[str, Tensor] = {}

    def take(self, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """Parameter name -> gradient, of those that were not taken since `forget`."""
        grads = {name: w.grad for name, w in weights.items() if w.grad is not None}
        fresh = {name: g for name, g in grads.items() if self._edited.get(name) is not g}
        self._edited |= fresh
        return fresh

    def forget(self) -> None:
        """The step is done, or gradients are computed anew."""
        self._edited = {}
