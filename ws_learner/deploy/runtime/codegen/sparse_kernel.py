"""A weight matrix bound to a compiled kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.deploy.runtime.codegen.block_format import Blocks, aligned, pack_blocks
from ws_learner.deploy.runtime.codegen.buffers import readable
from ws_learner.deploy.runtime.codegen.cpu import ISAS
from ws_learner.deploy.runtime.codegen.live_blocks import LiveBlocks
from ws_learner.deploy.runtime.codegen.native_program import (
    BoundRun,
    KernelCall,
    Program,
    address_of,
)
from ws_learner.deploy.runtime.codegen.spec import MOST_TILE_INPUTS, SLOTS, Spec
from ws_learner.deploy.runtime.quantisation import InputScale

__all__ = ["NO_PICKLE", "SparseKernel", "TimedRun", "Tokens"]

NO_PICKLE = "a compiled network cannot be pickled: use its save(path), and load_sparse(path)"

_PANEL = 64 * 1024  # bytes of a tile that are read at a time; beyond the first cache of most
_CHUNK, _SMALL_CHUNK = 256, 32  # outputs with sums that wait for the next panel, if any
_SOURCES = {"f32": torch.float32, "u8": torch.uint8}
_RESULTS = {"f32": torch.float32, "u8": torch.uint8, "i32": torch.int32}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bound:
    """Arrays a table of addresses points into, kept alive with it."""

    table: npt.NDArray[np.int64]
    arrays: tuple[npt.NDArray[np.generic], ...]
    scratch: int


class Tokens(ABC):
    """Generated kernels that run as one."""

    inputs: int
    outputs: int
    _program: Program

    @abstractmethod
    def tokens(self, x: Tensor, *, threads: int = 1) -> Tensor:
        """Map contiguous (T, K) to (T, N)."""

    def timed(self, x: Tensor, *, threads: int = 1) -> TimedRun:
        """The native part alone, on contiguous (T, K) floats, T above 0, for a trial."""
        readable(x, what="sparse kernel", dtype=torch.float32, shape=(None, self.inputs))
        y = torch.empty(len(x), self.outputs, dtype=torch.float32, device="cpu")
        run = self._program.prepared(x.data_ptr(), y.data_ptr(), len(x), threads=threads)
        return TimedRun(run, x, y)


class TimedRun:
    """A prepared call, with the tensors whose addresses it holds.

    Attributes:
        inputs: (T, K).
        outputs: (T, N), of the last run.
    """

    def __init__(self, run: Callable[[], None], inputs: Tensor, outputs: Tensor) -> None:
        self._run, self.inputs, self.outputs = run, inputs, outputs

    def __call__(self) -> None:
        """Run once."""
        self._run()

    def repeat(self, times: int) -> None:
        """Run `times` times; in a native loop where there is one part."""
        if isinstance(self._run, BoundRun):
            self._run.repeat(times)
            return
        for _ in range(times):
            self._run()


class SparseKernel(Tokens):
    """y = activation(x W^T + b) with the zero blocks of W left out. Calls are thread-safe."""

    def __init__(
        self,
        spec: Spec,
        weight: npt.NDArray[np.generic],  # (N, K) float32 or int8
        bias: npt.NDArray[np.float32] | None,  # (N,)
        *,
        scales: npt.NDArray[np.float32] | None = None,  # (N,) of an int8 weight
        source: InputScale | None = None,
        target: InputScale | None = None,
        live: LiveBlocks | None = None,
        sums: npt.NDArray[np.int64] | None = None,  # (N,)
    ) -> None:
        """Pack the weight and compile the kernel.

        Args:
            spec: The kernel.
            weight: Of the type that `spec` multiplies.
            bias: Added to every output, in output units.
            scales: What one step of each output's weights is worth.
            source: How inputs are quantised.
            target: How outputs are quantised, if `spec.result` is `u8`.
            live: Of this weight, if that is known.
            sums: Of each output's int8 weights, if they are known.
        """
        from ws_learner.deploy.runtime.codegen.kernels import compiled  # needs llvmlite

        self.spec, self.outputs, self.inputs = spec, *weight.shape
        self._function = compiled(spec)
        if source is not None and sums is None:
            sums = weight.sum(axis=1, dtype=np.int64)
        blocks = self._packed(weight, live)
        self._bound = self._bind(blocks, bias, scales, source, target, sums)
        self._program = Program([self.step()])

    def _packed(self, weight: npt.NDArray[np.generic], live: LiveBlocks | None) -> Blocks:
        spec, lanes = self.spec, ISAS[self.spec.isa].lanes
        if spec.dot == "amx" and self.inputs > MOST_TILE_INPUTS:
            raise ValueError(f"AMX kernels take at most {MOST_TILE_INPUTS} inputs: {self.inputs}")
        width = spec.vectors * lanes * 4
        panel = 65536 if spec.dot == "amx" else max(_PANEL // (width * spec.steps), 16)
        alone = panel * spec.inputs >= self.inputs
        return pack_blocks(
            weight,
            spec.rows,
            spec.inputs,
            packed=spec.packed,
            panel=min(panel, 65536),
            chunk=_SMALL_CHUNK if alone else _CHUNK,
            deep=spec.dot == "amx",
            live=live,
        )

    def _bind(
        self,
        blocks: Blocks,
        bias: npt.NDArray[np.float32] | None,
        scales: npt.NDArray[np.float32] | None,
        source: InputScale | None,
        target: InputScale | None,
        sums: npt.NDArray[np.int64] | None,
    ) -> _Bound:
        spec, width = self.spec, self.spec.vectors * ISAS[self.spec.isa].lanes * 4
        correction = np.zeros(self.outputs, np.int32)
        if source is not None and sums is not None:
            correction = (-source.zero * sums).astype(np.int32)
        full = np.ones(self.outputs, np.float32) if scales is None else scales
        step = full * np.float32(source.scale if source else 1)
        quantisation = np.array(
            [v for s in (source, target) for v in ((1 / s.scale, s.zero) if s else (1, 0))],
            np.float32,
        )
        shift = np.zeros(self.outputs, np.float32) if bias is None else bias
        terms: list[npt.NDArray[Any]] = [step, shift, correction]
        per_output = [_long(a, self.outputs) for a in terms]
        space, beyond = (_tile_bytes(spec, size) for size in (self.inputs, self.outputs))
        arrays: tuple[npt.NDArray[Any], ...] = (
            blocks.values,
            blocks.indices,
            blocks.pointers,
            *per_output,
            quantisation,
        )
        numbers = [a.ctypes.data for a in arrays]
        numbers += [self.outputs, self.inputs, blocks.chunk, blocks.panel, 0, space, beyond]
        assert len(numbers) == len(SLOTS)
        return _Bound(
            table=np.array(numbers, np.int64),
            arrays=arrays,
            # AMX kernels copy the rows of the tile that a row of blocks reads.
            scratch=space + blocks.chunk * width + (64 + space + 16 * width) * (spec.dot == "amx"),
        )

    def tokens(self, x: Tensor, *, threads: int = 1) -> Tensor:
        """Map contiguous (T, K) to (T, N).

        Raises:
            RuntimeError: The input is not as the kernel reads it.
        """
        x, count = self._checked(x, (None, self.inputs)), len(x)
        y = torch.empty(count, self.outputs, dtype=_RESULTS[self.spec.result], device="cpu")
        self._program.run(x.data_ptr(), y.data_ptr(), count, threads=threads)
        return y

    def step(self) -> KernelCall:
        """This kernel as a part of a program; it has to live as long."""
        tiles = self.spec.layout == "tokens"
        unit = self.spec.vectors * ISAS[self.spec.isa].lanes if tiles else 1
        each = unit * self.outputs * (1 if self.spec.result == "u8" else 4)
        return KernelCall(
            function=address_of(self._function),
            table=self._bound.table.ctypes.data,
            memory=self._bound.scratch,
            unit=unit,
            bytes=_tile_bytes(self.spec, self.outputs) if self.spec.result == "tile" else each,
        )

    def channels(self, x: Tensor, *, threads: int = 1) -> Tensor:
        """Map contiguous (B, K, S) to (B, N, S), S positions of an image.

        Raises:
            RuntimeError: The input is not as the kernel reads it.
        """
        batch, _, size = self._checked(x, (None, self.inputs, None)).shape
        kind = _RESULTS[self.spec.result]
        y = torch.empty(batch, self.outputs, size, dtype=kind, device="cpu")
        if not y.numel():
            return y
        # The table is shared, and the number of positions is the call's: each call has a copy.
        table = self._bound.table.copy()
        table[SLOTS.index("stride")] = size
        images = size, 4 * self.inputs * size, y.element_size() * self.outputs * size
        program = Program([replace(self.step(), table=table.ctypes.data)])
        program.run(x.data_ptr(), y.data_ptr(), batch, threads=threads, images=images)
        return y

    def _checked(self, x: Tensor, shape: tuple[int | None, ...]) -> Tensor:
        if (self.spec.layout == "channels") != (len(shape) == 3):
            raise RuntimeError(f"sparse kernel: layout is {self.spec.layout}")
        return readable(x, what="sparse kernel", dtype=_SOURCES[self.spec.source], shape=shape)

    def __deepcopy__(self, memo: object) -> SparseKernel:
        """Return the kernel itself: it is immutable, so copies share it."""
        return self

    def __reduce__(self) -> str:
        """Refuse: addresses mean nothing elsewhere."""
        raise UserError(NO_PICKLE)


def _tile_bytes(spec: Spec, inputs: int) -> int:
    """Of a tile of tokens with so many inputs, laid out, and a vector's rows beyond them."""
    lanes = ISAS[spec.isa].lanes
    rows = -(-inputs // (lanes * spec.packed)) * lanes + lanes
    return -(-rows * spec.vectors * lanes * 4 // 64) * 64


def _long(values: npt.NDArray[np.generic], count: int) -> npt.NDArray[np.generic]:
    """With zeros up to a multiple of 16."""
    whole = aligned(4 * (count + -count % 16)).view(values.dtype)
    whole[:count] = values
    return whole
