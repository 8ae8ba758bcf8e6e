"""A Swin transformer (Liu et al., ICCV 2021); parameter names are timm's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from experiments.models.transformer import DropPath, Mlp, PatchEmbed, initialize_transformer
from ws_learner.core import UserError

__all__ = ["Swin", "swin"]


class WindowAttention(nn.Module):
    """Self-attention within square windows, with a learned bias for each relative position."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int, *, drop: float) -> None:
        super().__init__()
        self.num_heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        grid = torch.stack(torch.meshgrid(*[torch.arange(window)] * 2, indexing="ij")).flatten(1)
        apart = grid[:, :, None] - grid[:, None, :] + window - 1
        index = apart[0] * (2 * window - 1) + apart[1]
        self.register_buffer("relative_position_index", index, persistent=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B windows, T, width) to the same; `mask` (windows, T, T) is added to the logits."""
        batch, tokens, width = x.shape
        shape = (batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.permute(2, 0, 1).unsqueeze(0)
        if mask is not None:
            bias = bias + mask.repeat(batch // len(mask), 1, 1).unsqueeze(1)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        result: Tensor = self.proj_drop(self.proj(mixed))
        return result


class Block(nn.Module):
    """Windowed attention, shifted in every other block, then an MLP."""

    attn_mask: Tensor | None

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        side: int,
        window: int,
        shift: int,
        drop: float,
        path: float,
    ) -> None:
        super().__init__()
        self.side, self.window, self.shift = side, window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window, drop=drop)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width, drop=drop)
        self.drop_path = DropPath(path)
        self.register_buffer("attn_mask", self._mask() if shift else None, persistent=False)

    def _mask(self) -> Tensor:
        """(windows, T, T): minus infinity, nearly, between regions that only the roll joined."""
        regions = torch.zeros(1, self.side, self.side, 1)
        edges = [slice(0, -self.window), slice(-self.window, -self.shift), slice(-self.shift, None)]
        for number, (down, along) in enumerate((a, b) for a in edges for b in edges):
            regions[:, down, along] = number
        flat = self._windows(regions).squeeze(-1)
        return torch.where(flat[:, None, :] == flat[:, :, None], 0.0, -100.0)

    def _windows(self, x: Tensor) -> Tensor:
        """(B, side, side, C) to (B windows, window^2, C)."""
        batch, side, _, width = x.shape
        count = side // self.window
        x = x.view(batch, count, self.window, count, self.window, width).transpose(2, 3)
        return x.reshape(-1, self.window**2, width)

    def _together(self, windows: Tensor, batch: int) -> Tensor:
        count, width = self.side // self.window, windows.shape[-1]
        x = windows.view(batch, count, count, self.window, self.window, width).transpose(2, 3)
        return x.reshape(batch, self.side, self.side, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, side, side, width) to the same."""
        y = self.norm1(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self._together(self.attn(self._windows(y), self.attn_mask), len(x))
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + self.drop_path(y)
        result: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return result


class PatchMerging(nn.Module):
    """Joins two by two tokens into one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, side, side, width) to (B, side / 2, side / 2, 2 width)."""
        batch, side, _, width = x.shape
        x = x.reshape(batch, side // 2, 2, side // 2, 2, width).permute(0, 1, 3, 4, 2, 5)
        result: Tensor = self.reduction(self.norm(x.flatten(3)))
        return result


class Stage(nn.Module):
    """Blocks of one width, after a merging of patches where it is not the first."""

    def __init__(self, *, width: int, merge: bool, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.downsample = PatchMerging(width // 2) if merge else nn.Identity()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, side, side, width) to the stage's own side and width."""
        result: Tensor = self.blocks(self.downsample(x))
        return result


class Head(nn.Module):
    """A linear layer on the mean token."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, side, side, width) to logits."""
        result: Tensor = self.fc(x.mean((1, 2)))
        return result


class Swin(nn.Module):
    """Patches, stages of windowed attention, a linear head."""

    def __init__(
        self,
        *,
        image: int,
        patch: int,
        window: int,
        width: int,
        depths: Sequence[int],
        heads: Sequence[int],
        num_classes: int = 10,
        drop: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch, width, norm=True)
        rates = iter(torch.linspace(0, drop_path, sum(depths)).tolist())
        stages, side = [], image // patch
        for number, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            size = min(window, side)
            blocks = [
                Block(
                    width,
                    count,
                    side=side,
                    window=size,
                    shift=size // 2 if index % 2 and size < side else 0,
                    drop=drop,
                    path=next(rates),
                )
                for index in range(depth)
            ]
            stages.append(Stage(width=width, merge=number > 0, blocks=blocks))
            side, width = side // 2, 2 * width
        self.layers = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(width // 2)
        self.head = Head(width // 2, num_classes)
        initialize_transformer(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, image, image) to logits (B, num_classes)."""
        logits: Tensor = self.head(self.norm(self.layers(self.patch_embed(x))))
        return logits


def swin(
    *,
    image: int = 32,
    patch: int = 4,
    window: int = 4,
    width: int = 64,
    depths: Sequence[int] = (2, 2),
    heads: Sequence[int] = (2, 4),
    num_classes: int = 10,
    drop: float = 0.0,
    drop_path: float = 0.0,
) -> Swin:
    """Build a Swin transformer; the defaults have 0.53 million parameters.

    Raises:
        UserError: Patches, windows and stages do not divide the image.
    """
    side = image // patch
    for depth in range(len(depths)):
        fits = side % min(window, side) == 0 if side else False
        if image % patch or not fits or (depth and 2 * side * patch * 2**depth != 2 * image):
            raise UserError(
                f"--patch {patch}: {len(depths)} stages with windows of {window} patches do not "
                f"fit images of {image} pixels"
            )
        side //= 2
    return Swin(
        image=image,
        patch=patch,
        window=window,
        width=width,
        depths=depths,
        heads=heads,
        num_classes=num_classes,
        drop=drop,
        drop_path=drop_path,
    )
