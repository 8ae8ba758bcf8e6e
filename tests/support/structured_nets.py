"""Small networks with coupled units of every kind, each with an example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.support.dead_channels import with_random_norms
from tests.support.fused_attention import WIDTH, FusedAttentionNet


class Residual(nn.Module):
    """A stem and two blocks on its stream, the second with a depthwise convolution."""

    def __init__(self, width: int = 6, inner: int = 5) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.a1, self.n1 = nn.Conv2d(width, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.a2, self.n2 = nn.Conv2d(inner, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.b1, self.bd = (
            nn.Conv2d(width, inner, 1),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner),
        )
        self.b2 = nn.Conv2d(inner, width, 1)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.n2(self.a2(self.n1(self.a1(x)).relu()))).relu()
        y = self.b2(self.bd(self.b1(x).relu()).relu())
        x = x + y
        result: Tensor = self.head(x.mean((2, 3)))
        return result


class Attention(nn.Module):
    """Separate q, k, v and o, and a feed-forward part."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.num_heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.o_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        layers = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (l(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for l in layers)  # noqa: E741
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return result


class Block(nn.Module):
    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), Attention(width)
        self.fc1, self.fc2 = nn.Linear(width, 10), nn.Linear(10, width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        result: Tensor = self.head((x + self.fc2(self.fc1(x).relu())).mean(1))
        return result


def chain() -> tuple[nn.Module, Tensor]:
    """Convolutions with norm before or after the activation, flattened into linear layers."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3),
        nn.ReLU(),
        nn.BatchNorm2d(5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 7),
        nn.ReLU(),
        nn.Linear(7, 4),
    )
    return with_random_norms(model), torch.randn(2, 3, 8, 8)


def residual() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return with_random_norms(Residual()), torch.randn(2, 3, 8, 8)


def attention() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return with_random_norms(Block()), torch.randn(2, 5, 12)


def fused() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return with_random_norms(FusedAttentionNet()), torch.randn(2, 5, WIDTH)


NETS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "chain": chain,
    "residual": residual,
    "attention": attention,
    "fused": fused,
}
