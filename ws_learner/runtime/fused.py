"""A Sequential that runs several of its parts as one, and still holds each of them.

Whoever calls single parts, or walks over them, gets what they always did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from torch import nn

__all__ = ["fuse", "is_plain"]


class _Fused:
    """Put before a Sequential's class."""

    fused_steps: tuple[Callable[[Any], Any], ...]

    def forward(self, x: Any) -> Any:
        """All parts, one after the other."""
        for step in self.fused_steps:
            x = step(x)
        return x


def fuse(parent: nn.Module, steps: Sequence[Callable[[Any], Any]]) -> None:
    """Let `parent` do these `steps` when it is called as a whole."""
    kind = type(parent)
    parent.__class__ = type(kind.__name__, (_Fused, kind), {})
    parent.fused_steps = tuple(steps)  # type: ignore[assignment]  # a tuple is no submodule


def is_plain(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether it is a Sequential that calls its parts in turn and does nothing else."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
