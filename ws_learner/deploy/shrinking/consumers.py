"""Consumers: the layers that read the channels of a set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Consumer", "outputs_first"]


@dataclass(frozen=True, eq=False)
class Consumer:
    """A layer that takes the channels of a set as inputs.

    Attributes:
        layer: A convolution or linear layer.
        columns: (K,) its input channels that belong to the set.
        roots: (K,) channel of the set that each column carries; one may come several times.
        fixed: (C,) bool: nothing in the data can change what arrives of a channel.
    """

    layer: nn.Conv2d | nn.Linear
    columns: Tensor
    roots: Tensor
    fixed: Tensor

    @property
    def pads(self) -> bool:
        """Whether a constant does not come out as one: it is zero-padded, or transposed."""
        if getattr(self.layer, "transposed", False):
            return True
        padding = getattr(self.layer, "padding", 0)
        if getattr(self.layer, "padding_mode", "zeros") != "zeros" or padding == "valid":
            return False
        return padding == "same" or any(torch.tensor(padding).flatten().tolist())

    def unread(self) -> Tensor:
        """(K,) bool: columns without any weight."""
        groups = getattr(self.layer, "groups", 1)  # each group has separate inputs
        weight = outputs_first(self.layer)
        parts = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
        by_input = parts.transpose(1, 2).reshape(groups * weight.shape[1], -1)
        return by_input[self.columns].eq(0).all(1)


def outputs_first(layer: nn.Module) -> Tensor:
    """(O, I / groups, ...) stored weight; a view, but for a transposed convolution in groups."""
    weight: Tensor = layer.weight.data  # type: ignore[assignment]
    if not getattr(layer, "transposed", False):
        return weight
    groups = int(getattr(layer, "groups", 1))
    if groups == 1:
        return weight.transpose(0, 1)
    parts = weight.reshape(groups, len(weight) // groups, *weight.shape[1:])
    return parts.transpose(1, 2).flatten(0, 1)
