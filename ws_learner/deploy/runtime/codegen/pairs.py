"""Embeddings and the products of all pairs of them: the front of a recommender, for inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.deploy.runtime.codegen.buffers import readable
from ws_learner.deploy.runtime.codegen.cpu import has_bf16_tiles
from ws_learner.deploy.runtime.codegen.native_program import KernelCall, Program, address_of

__all__ = ["PairProducts"]

_MOST_TABLES, _STEP, _UNIT = 31, 32, 16


class PairProducts(nn.Module):
    """Vectors are rounded to bfloat16 (8 bits), products of two of them are summed in float32.

    With AMX a generated kernel looks up, multiplies and writes in one pass over an example; without
    it, PyTorch does the same in several.
    """

    def __init__(self, tables: Sequence[Tensor], *, threads: int = 1) -> None:
        """Join the tables, (rows, width) each, to one in bfloat16; `threads` share the examples."""
        super().__init__()
        rows = [len(table) for table in tables]
        self.register_buffer("table", torch.cat([t.detach() for t in tables]).bfloat16())
        self.register_buffer("starts", torch.tensor([0, *rows[:-1]]).cumsum(0))
        self.register_buffer("rows", torch.tensor(rows))
        count = len(rows) + 1
        down, across = torch.tril_indices(count, count, offset=-1)
        self.register_buffer("flat", down * count + across, persistent=False)
        self.threads = threads
        width = tables[0].shape[1]
        self.fused = has_bf16_tiles() and len(rows) <= _MOST_TABLES and width % _STEP == 0

    table: Tensor
    starts: Tensor
    rows: Tensor
    flat: Tensor

    @torch.no_grad()
    def forward(self, bottom: Tensor, categories: Tensor) -> Tensor:
        """Map (B, W) float32 and (B, T) int64 to (B, W + pairs): `bottom`, then products.

        Raises:
            IndexError: A category is not a row of its table.
        """
        if categories.shape != (len(bottom), len(self.rows)) or bottom.shape[1:] != (
            self.table.shape[1],
        ):
            raise ValueError(
                f"PairProducts: {tuple(bottom.shape)} and {tuple(categories.shape)} do not fit "
                f"{len(self.rows)} tables of width {self.table.shape[1]}"
            )
        categories = categories.long()  # NaN becomes a number that is no row
        if self.fused:
            return self._fused(bottom.float().contiguous(), categories.contiguous())
        if bool(((categories < 0) | (categories >= self.rows)).any()):
            raise IndexError("PairProducts: a category is out of its table's range")
        looked_up = nn.functional.embedding(categories + self.starts, self.table)
        vectors = torch.cat([bottom.bfloat16().unsqueeze(1), looked_up], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
        return torch.cat([bottom, products.index_select(1, self.flat).float()], 1)

    def _fused(self, bottom: Tensor, categories: Tensor) -> Tensor:
        from ws_learner.deploy.runtime.codegen.kernels import compiled_pairs
        from ws_learner.deploy.runtime.codegen.pair_kernel import pair_scratch

        count, width = bottom.shape
        run, wrong = compiled_pairs(len(self.rows), width), np.zeros(1, np.int64)
        y = torch.empty(count, width + len(self.flat), dtype=torch.float32, device="cpu")
        tensors = (self.table, categories, self.starts, self.rows)
        # Buffers may have been moved or rounded since: .half(), .to(device).
        kinds = (torch.bfloat16, torch.int64, torch.int64, torch.int64)
        for tensor, kind in zip((bottom, *tensors), (torch.float32, *kinds), strict=True):
            readable(tensor, what="PairProducts", dtype=kind, shape=tuple(tensor.shape))
        numbers = np.array([*(t.data_ptr() for t in tensors), wrong.ctypes.data], np.int64)
        step = KernelCall(
            function=address_of(run),
            table=numbers.ctypes.data,
            memory=pair_scratch(width),
            unit=_UNIT,
            bytes=0,
        )
        Program([step]).run(bottom.data_ptr(), y.data_ptr(), count, threads=self.threads)
        if wrong[0]:
            raise IndexError("PairProducts: a category is out of its table's range")
        return y
