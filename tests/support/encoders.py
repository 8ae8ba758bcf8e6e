"""Encoder layers as people write them, and some that are none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Block", "Causal", "Eager", "Encoder", "PreNorm", "Scaled", "WordMask", "Wrapped"]


class Block(nn.Module):
    """Post-norm; the mask is for the scores."""

    activation: Any = staticmethod(functional.gelu)

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.a, self.b, self.c, self.d = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.first, self.second = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width)
        for norm in (self.first, self.second):
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.view(*y.shape[:2], self.heads, y.shape[2] // self.heads).transpose(1, 2)

        q, k, v = split(self.a(x)), split(self.b(x)), split(self.c(x))
        mixed = self.mix(q, k, v, mask).transpose(1, 2)
        result: Tensor = self.d(mixed.reshape(x.shape))
        return result

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)

    def forward(self, x: Tensor, mask: Tensor | None = None, extra: Any = None) -> Any:
        z = self.first(self.attend(x, mask) + x)
        return self.second(self.down(self.activation(self.up(z))) + z)


class WordMask(Block):
    """The mask is for words; ReLU."""

    activation = staticmethod(functional.relu)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        seen = None if mask is None else mask[:, None, None].bool()
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)


class Wrapped(Block):
    """Gives a tuple."""

    def forward(self, x: Tensor, mask: Tensor | None = None, extra: Any = None) -> Any:
        return (super().forward(x, mask),)


class Eager(Block):
    """Attention step by step."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        scores = q @ k.transpose(-1, -2) * 0.3
        return torch.softmax(scores if mask is None else scores + mask, -1) @ v


class Causal(Block):
    """Tokens see only what is before them."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Scaled(Block):
    """Does one thing more."""

    def forward(self, x: Tensor, mask: Tensor | None = None, extra: Any = None) -> Any:
        return super().forward(x, mask) * 1.01


class PreNorm(Block):
    """Norms come first."""

    def forward(self, x: Tensor, mask: Tensor | None = None, extra: Any = None) -> Any:
        x = x + self.attend(self.first(x), mask)
        return x + self.down(self.activation(self.up(self.second(x))))


class Encoder(nn.Module):
    """Two blocks behind an embedding of 50 words; 0 is padding if `padded`."""

    def __init__(
        self, kind: type[Block], *, width: int = 32, inner: int = 48, padded: bool = True
    ) -> None:
        super().__init__()
        self.words, self.padded, self.kind = nn.Embedding(50, width), padded, kind
        self.places = nn.Embedding(100, width)
        self.blocks = nn.ModuleList(kind(width, 2, inner) for _ in range(2))

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places.weight[: words.shape[1]]
        mask = None
        if self.padded and bool((words == 0).any()):
            mask = words != 0
            if not issubclass(self.kind, WordMask):
                mask = mask[:, None, None].expand(-1, -1, words.shape[1], -1)
            if issubclass(self.kind, Eager):
                mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        for block in self.blocks:
            x = block(x, mask)
            x = x[0] if isinstance(x, tuple) else x
        return x
