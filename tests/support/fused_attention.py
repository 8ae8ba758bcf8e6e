"""A network with one attention in the style of timm: one layer makes q, k and v."""

from __future__ import annotations

from torch import Tensor, nn

HEADS, WIDTH = 4, 24


class FusedAttention(nn.Module):
    """timm's attention: one layer for q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = HEADS
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*parts.unbind(0))
        result: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return result


class FusedAttentionNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn, self.head = nn.LayerNorm(WIDTH), FusedAttention(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head((x + self.attn(self.norm(x))).mean(1))
        return result
