"""A layer of a transformer's encoder as one native call: attention, feed-forward part, norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.deploy.runtime.codegen.buffers import readable
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.native_program import KernelCall, address_of
from ws_learner.deploy.runtime.codegen.openmp import openmp
from ws_learner.deploy.runtime.codegen.parallel import scratch
from ws_learner.deploy.runtime.codegen.sequence_tables import (
    ATTENTION_SLOTS,
    HEADER,
    INPUT,
    NORM_SLOTS,
    OUTPUT,
    SEQUENCE_JOB,
    SEQUENCE_STEP,
    attention_scratch,
)
from ws_learner.deploy.runtime.codegen.sparse_kernel import NO_PICKLE, SparseKernel

__all__ = ["EncoderProgram", "Norm", "vector_lanes"]

_TOKENS = 64  # of a block of sequences, if they are short
_MOST_LENGTHS = 32  # whose plans are kept


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """A layer norm: (W,) weight and bias, and what is added to the variance."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Steps for one length: their rows, and bytes of memory for each thread."""

    rows: tuple[int, ...]
    steps: int
    room: int


def vector_lanes() -> int:
    """Floats in a vector of this processor; 0 if no code is generated for it."""
    return max((isa.lanes for isa in usable_isas() if isa.dot != "amx"), default=0)


class EncoderProgram:
    """norm2(z + ffn(z)), z = norm1(x + o(attention(x))). Calls are thread-safe."""

    def __init__(
        self,
        *,
        inward: Sequence[SparseKernel],
        output: SparseKernel,
        inner: Sequence[SparseKernel],
        norms: tuple[Norm, Norm],
        heads: int,
        scale: float,
    ) -> None:
        """Bind kernels to their places.

        Args:
            inward: Queries, keys and values: three kernels, or one with all of their outputs.
            output: Of the attention.
            inner: The feed-forward part's two.
            norms: After each part.
            heads: Of the attention; a head's width is a multiple of `vector_lanes()`.
            scale: Of the scores.
        """
        from ws_learner.deploy.runtime.codegen.kernels import (
            compiled_attention,
            compiled_norm,
            compiled_sequences,
        )

        self._kernels = (*inward, output, *inner)  # kept alive
        self.width, lanes = output.outputs, vector_lanes()
        self._lanes, self._depth = lanes, self.width // heads
        self._inward, self._output, self._inner = (
            [kernel.step() for kernel in part] for part in (inward, [output], inner)
        )
        row, apart = 4 * self.width * (3 if len(inward) == 1 else 1), len(inward) > 1
        self._apart, self._row = apart, row
        # With kernels apart, keys and values lie behind the tokens: see `_attention_table`.
        self._scale = int(np.array([scale, 0], np.float32).view(np.int64)[0])
        self._heads = heads
        self._attention = address_of(compiled_attention(self._depth, lanes))
        self._norm = address_of(compiled_norm(lanes))
        self._tables = [self._norm_table(norm) for norm in norms]
        self._run = compiled_sequences()
        self._plans: dict[tuple[int, int], tuple[_Plan, npt.NDArray[np.int64]]] = {}

    def _norm_table(self, norm: Norm) -> tuple[npt.NDArray[np.int64], Norm]:
        epsilon = int(np.array([norm.epsilon, 0], np.float32).view(np.int64)[0])
        places = norm.weight.ctypes.data, norm.bias.ctypes.data, self.width, epsilon
        assert len(places) == len(NORM_SLOTS)
        return np.array(places, np.int64), norm

    def _attention_table(self, tokens: int) -> npt.NDArray[np.int64]:
        apart = 4 * self.width * (tokens if self._apart else 1)
        row, width = (self._row, 4 * self.width)
        numbers = (self._heads, row, apart, 2 * apart, width, self._scale)
        assert len(numbers) == len(ATTENTION_SLOTS)
        return np.array(numbers, np.int64)

    def __call__(self, x: Tensor, mask: Tensor | None, *, threads: int = 1) -> Tensor:
        """Map contiguous (B, L, W) to (B, L, W), B and L above 0.

        Args:
            x: The input.
            mask: Contiguous (B, 1 or L, L) floats that are added to the scores.
            threads: At most so many share the sequences.

        Raises:
            RuntimeError: A tensor is not as described.
        """
        readable(x, what="encoder", dtype=torch.float32, shape=(None, None, self.width))
        count, length = x.shape[0], x.shape[1]
        seen = (0, 0, 0)
        if mask is not None:
            readable(mask, what="mask", dtype=torch.float32, shape=(count, None, length))
            rows = mask.shape[1]
            seen = mask.data_ptr(), 4 * rows * length, 4 * length * (rows > 1)
        y = torch.empty(x.shape, dtype=torch.float32, device="cpu")
        block = max(1, min(_TOKENS // length, -(-count // threads)))
        parts = min(threads, -(-count // block))
        library = openmp() if parts > 1 else None
        parts = parts if library else 1
        plan, _table = self._plan(length, block)  # held, as its address is
        asked = (library.ask_number, library.ask_team) if library else (0, 0)
        memory = scratch(plan.room * parts), plan.room
        job = np.array(
            [
                *(count, length, block, plan.steps, x.data_ptr(), y.data_ptr(), 4 * self.width),
                *(*seen, *memory, 0, 1, *asked, *plan.rows),
            ],
            np.int64,
        )
        if library is None:
            self._run(job.ctypes.data)
        else:
            library.run(address_of(self._run), job.ctypes.data, parts, 0)
        return y

    def _plan(self, length: int, block: int) -> tuple[_Plan, npt.NDArray[np.int64]]:
        found = self._plans.get((length, block))
        if found is None:
            if len(self._plans) >= _MOST_LENGTHS:
                self._plans.clear()  # another thread's call holds its own plan
            found = self._plans[length, block] = self._planned(length, block)
        return found

    def _planned(self, length: int, block: int) -> tuple[_Plan, npt.NDArray[np.int64]]:
        tokens, table = length * block, self._attention_table(length * block)
        wide = _rounded(4 * self.width * tokens)
        calls = [*self._inward, *self._output, *self._inner]
        work = max(
            HEADER + max(call.memory for call in calls),
            attention_scratch(length, self._depth, self._lanes),
        )
        first = _rounded(work)
        projected, mixed = first, first + 3 * wide
        out, between = mixed + wide, mixed + 2 * wide
        middle = between + wide
        up, down = self._inner
        size = _rounded(-(-tokens // up.unit) * up.bytes)
        rows: list[tuple[int, ...]] = []
        for number, call in enumerate(self._inward):
            rows.append(_row(call, INPUT, projected + 4 * self.width * tokens * number))
        rows.append((self._attention, table.ctypes.data, 1, projected, mixed, 0))
        rows.append(_row(self._output[0], mixed, out))
        norms = [held.ctypes.data for held, _ in self._tables]
        rows.append((self._norm, norms[0], 0, out, between, INPUT))
        rows += [_row(up, between, middle), _row(down, middle, out)]
        rows.append((self._norm, norms[1], 0, out, OUTPUT, between))
        assert len(SEQUENCE_JOB) == 16
        assert all(len(row) == len(SEQUENCE_STEP) for row in rows)
        flat = tuple(number for row in rows for number in row)
        return _Plan(rows=flat, steps=len(rows), room=middle + size), table

    def __deepcopy__(self, memo: object) -> EncoderProgram:
        """It is immutable but for its plans, so copies share it."""
        return self

    def __reduce__(self) -> str:
        """Refuse: addresses mean nothing elsewhere."""
        raise UserError(NO_PICKLE)


def _row(call: KernelCall, x: int, y: int) -> tuple[int, ...]:
    return call.function, call.table, 0, x, y, HEADER


def _rounded(size: int) -> int:
    return -(-size // 64) * 64
