"""Networks in the style of GPT-2, without transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conv1D(nn.Module):
    """As transformers has it: a Linear whose weight is (inputs, outputs)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return flat.view(*x.shape[:-1], self.nf)


class TinyGpt(nn.Module):
    """A block with a fused projection and a feed-forward network; the head shares the words."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(40, 8), nn.Embedding(10, 8)
        block: dict[str, nn.Module] = {
            "attn": nn.ModuleDict({"c_attn": Conv1D(24, 8), "c_proj": Conv1D(8, 8)}),
            "mlp": nn.ModuleDict({"c_fc": Conv1D(32, 8), "c_proj": Conv1D(8, 32)}),
        }
        self.h = nn.ModuleList([nn.ModuleDict(block)])
        self.lm_head = nn.Linear(8, 40, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        attn, mlp = self.h[0]["attn"], self.h[0]["mlp"]  # type: ignore[index]
        q, k, v = attn["c_attn"](x).split(8, 2)
        x = x + attn["c_proj"]((q @ k.mT).softmax(-1) @ v)
        out: Tensor = self.lm_head(x + mlp["c_proj"](mlp["c_fc"](x).relu()))
        return out
