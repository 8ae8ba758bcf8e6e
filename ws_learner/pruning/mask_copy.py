"""Masks applied to a copy of the network: moving averages, the best weights so far."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ws_learner.core import UserError

__all__ = ["mask_copy"]

Model = TypeVar("Model", bound=nn.Module)
_WRAPPED = ("module", "_orig_mod")
"""Where AveragedModel, DistributedDataParallel and compiled models keep the network."""


@torch.no_grad()
def mask_copy(other: Model, masks: Mapping[str, Tensor]) -> Model:
    """Set pruned weights of `other` to zero, in place.

    Args:
        other: A model, perhaps wrapped, with parameters of these names.
        masks: Parameter name -> bool mask, True = kept.

    Raises:
        UserError: A parameter is missing or has another shape; nothing is changed.
    """
    weights = _parameters(other, masks)
    for name, mask in masks.items():
        if name not in weights:
            near = difflib.get_close_matches(name, weights, n=1, cutoff=0.0)
            hint = f" (the nearest name is {near[0]})" if near else ""
            raise UserError(
                f"`other` {type(other).__name__}: has no parameter {name}, which is pruned{hint}; "
                "give a copy of the very network that is pruned"
            )
        if weights[name].shape != mask.shape:
            raise UserError(
                f"`other` {type(other).__name__}: {name} has the shape "
                f"{tuple(weights[name].shape)}, the mask {tuple(mask.shape)}; give a copy of the "
                "very network that is pruned"
            )
    for name, mask in masks.items():
        weights[name].masked_fill_(~mask.to(weights[name].device), 0)
    return other


def _parameters(model: nn.Module, names: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Parameters by name, of the wrapped network where the wrapper's names differ."""
    found = dict(model.named_parameters(remove_duplicate=False))
    inner = next((m for key in _WRAPPED if (m := getattr(model, key, None)) is not None), None)
    if isinstance(inner, nn.Module) and not all(name in found for name in names):
        return _parameters(inner, names)
    return found
