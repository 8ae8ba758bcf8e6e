"""Shared layers of the vision transformers; parameter names are timm's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["DropPath", "Mlp", "PatchEmbed", "initialize_transformer"]


class DropPath(nn.Module):
    """Stochastic depth: drop a residual branch for some training examples (Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Scale (B, ...) rows by 0 or 1 / (1 - rate)."""
        if not self.training or self.rate == 0:
            return x
        shape = (len(x), *(1 for _ in x.shape[1:]))
        keep = torch.rand(shape, device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1 - self.rate)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, inner: int, *, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.act = nn.GELU()
        self.drop = nn.Dropout(drop)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        result: Tensor = self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
        return result


class PatchEmbed(nn.Module):
    """Cuts an image into patches and embeds each."""

    def __init__(self, patch: int, width: int, *, norm: bool = False) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, H / patch, W / patch, width)."""
        result: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return result


def initialize_transformer(model: nn.Module) -> None:
    """Truncated normals of width 0.02 for linear weights, zeros for biases, as timm has it."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
