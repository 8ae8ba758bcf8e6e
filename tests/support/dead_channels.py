"""Networks with values a trained one could have, some of whose channels are zero."""

from __future__ import annotations

import torch
from torch import nn


def with_random_norms(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give every norm and bias values that a trained network could have."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.5, generator=generator)
        elif getattr(module, "bias", None) is not None:
            module.bias.data.normal_(0, 0.5, generator=generator)
    return model.eval()


def zero_channels(model: nn.Module, name: str, rows: slice, *, columns: bool = False) -> None:
    """Set some outputs (or, by columns, inputs) of a layer to zero."""
    weight = model.get_parameter(name + ".weight").data
    if columns:
        weight[:, rows] = 0
    else:
        weight[rows] = 0
