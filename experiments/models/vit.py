"""A vision transformer (Dosovitskiy et al. 2021); parameter names are timm's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from experiments.models.transformer import DropPath, Mlp, PatchEmbed, initialize_transformer
from ws_learner.core import UserError

__all__ = ["Vit", "vit"]


class Attention(nn.Module):
    """Self-attention over all tokens, q, k and v in one weight."""

    def __init__(self, width: int, heads: int, *, drop: float) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        batch, tokens, width = x.shape
        shape = (batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2)
        result: Tensor = self.proj_drop(self.proj(mixed.reshape(batch, tokens, width)))
        return result


class Block(nn.Module):
    """Attention, then an MLP, each on a normalised copy of the stream."""

    def __init__(
        self, width: int, heads: int, *, mlp_ratio: int, drop: float, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, drop=drop)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_ratio * width, drop=drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        result: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return result


class Vit(nn.Module):
    """Patches, a class token, pre-norm blocks, a linear head on the class token."""

    def __init__(
        self,
        *,
        image: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: int = 4,
        num_classes: int = 10,
        drop: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        tokens = (image // patch) ** 2 + 1
        self.patch_embed = PatchEmbed(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.pos_drop = nn.Dropout(drop)
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.Sequential(
            *(Block(width, heads, mlp_ratio=mlp_ratio, drop=drop, drop_path=rate) for rate in rates)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        initialize_transformer(self)
        nn.init.normal_(self.cls_token, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, image, image) to logits (B, num_classes)."""
        patches = self.patch_embed(x).flatten(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1)
        tokens = self.blocks(self.pos_drop(tokens + self.pos_embed))
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits


def vit(
    *,
    image: int = 32,
    patch: int = 4,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    num_classes: int = 10,
    drop: float = 0.0,
    drop_path: float = 0.0,
) -> Vit:
    """Build a vision transformer; the defaults have 0.80 million parameters.

    Raises:
        UserError: The patch does not divide the image, or the heads do not divide the width.
    """
    if image % patch:
        raise UserError(f"--patch {patch}: does not divide images of {image} pixels")
    if width % heads:
        raise UserError(f"--heads {heads}: does not divide the width {width}")
    return Vit(
        image=image,
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        num_classes=num_classes,
        drop=drop,
        drop_path=drop_path,
    )
