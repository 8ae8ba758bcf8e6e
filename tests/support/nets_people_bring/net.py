"""A network from its layers and a forward pass given as a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["Net", "net"]


class Net(nn.Module):
    """Layers by name; `run` is its forward pass and finds them as attributes of its first argument.

    A method may be needed in its stead, see `net`.
    """

    run: Callable[..., Any]

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *places: Any, **words: Any) -> Any:
        """Run it."""
        return type(self).run(self, *places, **words)


def net(
    run: Callable[..., Any], example: Any, **layers: Callable[[], nn.Module]
) -> Callable[[], tuple[nn.Module, Any]]:
    """A builder of a network and its example; `layers` build the layers."""

    def build() -> tuple[nn.Module, Any]:
        torch.manual_seed(0)
        kind = type("Net", (Net,), {"run": run})
        model: nn.Module = kind(**{name: make() for name, make in layers.items()})
        return model, example() if callable(example) else example

    return build
