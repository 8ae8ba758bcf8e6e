"""The small networks of `benchmarks.interoperability`, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import nn


def conv() -> nn.Sequential:
    """Three convolutions with batch norm and a head, for 16 x 20 x 20."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs in (16, 64, 64):
        layers += [nn.Conv2d(inputs, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return model.eval()


def mlp() -> nn.Sequential:
    """256 -> 512 -> 512 -> 10."""
    torch.manual_seed(0)
    first, second, head = nn.Linear(256, 512), nn.Linear(512, 512), nn.Linear(512, 10)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), head).eval()
