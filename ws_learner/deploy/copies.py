"""Copies of networks as people have them: wrapped, with computed weights, in training mode."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["copy_of", "evaluating", "unwrapped"]


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy, also of networks that hold results of a computation.

    `torch.nn.utils.weight_norm` and the masks of `torch.nn.utils.prune` store such a weight and
    compute it again at each call; PyTorch does not copy it.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """The network inside `torch.compile` and data parallelism, and the prefix of its names."""
    prefix = ""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model, prefix = model.module, f"{prefix}module."
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model, prefix = inner, f"{prefix}_orig_mod."
        else:
            return model, prefix


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module is in its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
