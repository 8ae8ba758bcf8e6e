"""A layer that reads channels of a set, and what arrives there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Reader"]


@dataclass(frozen=True, eq=False)
class Reader:
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
        """Whether zeros are put around its input, where a constant would be."""
        padding = getattr(self.layer, "padding", 0)
        return padding == "same" or any(torch.tensor(padding).flatten().tolist())

    def unread(self) -> Tensor:
        """(K,) bool: columns without any weight."""
        weight = self.layer.weight.detach()[:, self.columns]
        return weight.transpose(0, 1).reshape(len(self.columns), -1).eq(0).all(1)
