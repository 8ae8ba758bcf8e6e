"""DLRM (Naumov et al. 2019) in MLPerf's size for Criteo Terabyte, with its parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ws_learner.deploy import PairProducts

__all__ = ["DLRM", "OneInput", "QuickDLRM", "dlrm"]

_DENSE, _WIDTH, _TABLES = 13, 128, 26
_BOTTOM = (_DENSE, 512, 256, _WIDTH)
_TOP = (_WIDTH + (_TABLES + 1) * _TABLES // 2, 1024, 1024, 512, 256, 1)


class DLRM(nn.Module):
    """Dense features through an MLP, categories through tables, products of pairs, another MLP."""

    def __init__(
        self,
        rows: Sequence[int],
        *,
        bottom: Sequence[int] = _BOTTOM,
        top: Sequence[int] = _TOP[1:],
    ) -> None:
        """Widths of the MLPs; the bottom's last is that of the tables."""
        super().__init__()
        width, count = bottom[-1], len(rows) + 1
        self.emb_l = nn.ModuleList(nn.EmbeddingBag(n, width, mode="sum") for n in rows)
        for table in self.emb_l:  # as the authors' code has it
            nn.init.uniform_(table.weight, -(len(table.weight) ** -0.5), len(table.weight) ** -0.5)  # type: ignore[arg-type]
        self.bot_l = _mlp(bottom, nn.ReLU())
        self.top_l = _mlp((width + count * (count - 1) // 2, *top), nn.Identity())
        pairs = torch.tril_indices(count, count, offset=-1)
        self.register_buffer("pairs", pairs, persistent=False)

    def forward(self, dense: Tensor, categories: Tensor | None = None) -> Tensor:
        """Map (B, D) numbers and (B, T) indices, or (B, D + T) both in one, to logits (B,)."""
        if categories is None:
            numbers: int = self.bot_l[0].in_features  # type: ignore[assignment]
            dense, categories = dense[:, :numbers], dense[:, numbers:].long()
        bottom = self.bot_l(dense)
        looked_up = [table(categories[:, i : i + 1]) for i, table in enumerate(self.emb_l)]
        features = torch.stack([bottom, *looked_up], 1)
        products = features @ features.transpose(1, 2)
        rows, columns = self.pairs  # type: ignore[misc]
        top: Tensor = self.top_l(torch.cat([bottom, products[:, rows, columns]], 1))
        return top.squeeze(1)


class OneInput(nn.Module):
    """A DLRM that reads one table: `numbers` columns of numbers, then categories."""

    def __init__(self, net: DLRM, *, numbers: int) -> None:
        super().__init__()
        self.net, self.numbers = net, numbers

    def forward(self, rows: Tensor) -> Tensor:
        """Map (B, D + T) to logits (B,)."""
        logits: Tensor = self.net(rows[:, : self.numbers], rows[:, self.numbers :].long())
        return logits


class QuickDLRM(nn.Module):
    """The same network for inference: tables and products of pairs in bfloat16.

    Products are as precise as bfloat16 is (8 bits), the MLPs are those of the original.
    """

    def __init__(self, net: DLRM, *, threads: int = 1) -> None:
        """Share the MLPs of `net`; `threads` look up and multiply."""
        super().__init__()
        tables: list[Tensor] = [table.weight for table in net.emb_l]  # type: ignore[misc]
        self.pairs = PairProducts(tables, threads=threads)
        self.bot_l, self.top_l = net.bot_l, net.top_l

    def forward(self, dense: Tensor, categories: Tensor) -> Tensor:
        """Map (B, D) numbers and (B, T) indices to logits (B,)."""
        top: Tensor = self.top_l(self.pairs(self.bot_l(dense), categories))
        return top.squeeze(1)


def _mlp(widths: Sequence[int], last: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1], last)


def dlrm(*, rows: int | Sequence[int] = 1000) -> nn.Module:
    """Build the network; `rows` of the 26 tables (all alike, or one number each)."""
    return DLRM([rows] * _TABLES if isinstance(rows, int) else rows)
