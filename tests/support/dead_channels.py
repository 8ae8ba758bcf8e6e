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


def with_random_dead_channels(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Zero a third of the outputs and a quarter of the inputs of each layer, and a few biases."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        layer = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
        weight = module._parameters.get("weight") if layer else None
        if weight is not None:
            outputs = int(getattr(module, "transposed", False))
            for axis, share in ((outputs, 3), (1 - outputs, 4)):
                count = weight.shape[axis]
                if count > 2:
                    gone = torch.randperm(count, generator=generator)[: max(1, count // share)]
                    weight.data.index_fill_(axis, gone, 0)
            bias = module._parameters.get("bias")
            if bias is not None:
                bias.data *= (torch.rand(bias.shape, generator=generator) < 0.7).to(bias)
        elif isinstance(module, nn.modules.batchnorm._NormBase):
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None and tensor.is_floating_point():
                    tensor.data.uniform_(0.2, 1.5, generator=generator)
    return model
