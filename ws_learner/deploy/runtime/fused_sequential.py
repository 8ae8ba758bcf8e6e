"""A Sequential that runs several of its parts as one, and still holds each of them.

Calling, iterating over or replacing single parts works as in a plain Sequential.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, TypeGuard

from torch import nn

__all__ = ["fuse", "is_plain", "is_watched"]


def fuse(parent: nn.Module, steps: Sequence[Callable[[Any], Any]]) -> None:
    """Let `parent` do these `steps` when it is called as a whole, as long as its parts stay."""
    held: dict[str, Any] = parent.__dict__  # not as submodules
    held["fused_steps"], held["fused_from"] = tuple(steps), tuple(parent._modules.values())
    held["forward"] = MethodType(_forward, parent)


def _forward(self: Any, input: Any) -> Any:
    parts = [id(part) for part in self._modules.values()]
    alike = parts == [id(part) for part in self.fused_from]
    if alike and not any(is_watched(part) for part in self.fused_from if part is not None):
        for step in self.fused_steps:
            input = step(input)
        return input
    return type(self).forward(self, input)


def is_watched(module: nn.Module) -> bool:
    """Whether hooks see, or change, inputs and outputs."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def is_plain(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether it is a Sequential that calls its parts in turn and does nothing else."""
    if not isinstance(module, nn.Sequential) or "forward" in module.__dict__:
        return False
    kind = type(module)
    same = (kind.forward, kind.__iter__) == (nn.Sequential.forward, nn.Sequential.__iter__)
    return same and kind.__call__ is nn.Module.__call__
