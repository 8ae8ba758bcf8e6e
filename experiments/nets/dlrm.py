"""DLRM (Naumov et al. 2019) in MLPerf's size for Criteo Terabyte, with its parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["DLRM", "dlrm"]

_DENSE, _WIDTH, _TABLES = 13, 128, 26
_BOTTOM = (_DENSE, 512, 256, _WIDTH)
_TOP = (_WIDTH + (_TABLES + 1) * _TABLES // 2, 1024, 1024, 512, 256, 1)


class DLRM(nn.Module):
    """Dense features through an MLP, categories through tables, products of pairs, another MLP."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__()
        self.emb_l = nn.ModuleList(nn.EmbeddingBag(n, _WIDTH, mode="sum") for n in rows)
        self.bot_l, self.top_l = _mlp(_BOTTOM, nn.ReLU()), _mlp(_TOP, nn.Identity())
        pairs = torch.tril_indices(_TABLES + 1, _TABLES + 1, offset=-1)
        self.register_buffer("pairs", pairs, persistent=False)

    def forward(self, dense: Tensor, categories: Tensor) -> Tensor:
        """Map (B, 13) numbers and (B, 26) indices to logits (B,)."""
        bottom = self.bot_l(dense)
        looked_up = [table(categories[:, i : i + 1]) for i, table in enumerate(self.emb_l)]
        features = torch.stack([bottom, *looked_up], 1)
        products = features @ features.transpose(1, 2)
        rows, columns = self.pairs  # type: ignore[misc]
        top: Tensor = self.top_l(torch.cat([bottom, products[:, rows, columns]], 1))
        return top.squeeze(1)


def _mlp(widths: Sequence[int], last: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1], last)


def dlrm(*, rows: int | Sequence[int] = 1000) -> nn.Module:
    """Build the network; `rows` of the 26 tables (all alike, or one number each)."""
    return DLRM([rows] * _TABLES if isinstance(rows, int) else rows)
