"""A network's tensors and sizes, to go back to if a cut turns out wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

__all__ = ["Snapshot"]


class Snapshot:
    """What a cut may change. Only the tensors of layers that are written to are copied."""

    def __init__(self, model: nn.Module, written: Iterable[nn.Module]) -> None:
        self._tensors = {
            module: (dict(module._parameters), dict(module._buffers)) for module in model.modules()
        }
        self._sizes = {
            module: {n: v for n, v in vars(module).items() if isinstance(v, int | tuple)}
            for module in model.modules()
        }
        self._values = [
            (tensor, tensor.detach().clone())
            for module in written
            for tensor in module._parameters.values()
            if tensor is not None
        ]

    def restore(self) -> None:
        """Put everything back."""
        for module, (parameters, buffers) in self._tensors.items():
            own: Any = module
            own._parameters.clear()
            own._parameters.update(parameters)
            own._buffers.clear()
            own._buffers.update(buffers)
        for module, sizes in self._sizes.items():
            vars(module).update(sizes)
        for tensor, value in self._values:
            tensor.data.copy_(value)
