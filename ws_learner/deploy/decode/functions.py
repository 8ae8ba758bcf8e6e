"""Compiled decode kernels; each takes the addresses of its table and of the state."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ws_learner.deploy.decode.isas import compile_kernel, decode_isa
from ws_learner.deploy.decode.matvec import MATVEC_SLOTS, MatvecSpec, matvec_source
from ws_learner.deploy.decode.packing import HEAD, ROWS, Packed, stream_length
from ws_learner.deploy.decode.tables import byte_masks, lane_places
from ws_learner.deploy.runtime.codegen.block_format import aligned

__all__ = ["Call", "Kernel", "Place", "matvec_call", "matvec_calls", "matvec_kernel", "stored"]

Kernel = Callable[[int, int], None]
_SLACK = 4096  # bytes behind a stream that may be read, or asked for, but are not used


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """A kernel with its table.

    Attributes:
        kernel: The function.
        table: int64 numbers.
        held: Arrays whose addresses are in the table.
    """

    kernel: Kernel
    table: npt.NDArray[np.int64]
    held: tuple[npt.NDArray[np.generic], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Rows of floats or bytes in the state.

    Attributes:
        at: Bytes from the state's begin.
        bytes: From one token to the next.
        scale: Where the tokens' scales (float32) are, if the rows are bytes.
    """

    at: int
    bytes: int
    scale: int = 0


@functools.cache
def matvec_kernel(spec: MatvecSpec) -> Kernel:
    """See `matvec`.

    Raises:
        RuntimeError: This processor lacks the instruction set.
    """
    decode_isa(spec.isa)
    return compile_kernel(matvec_source(spec), spec.isa)


def stored(stream: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A copy that begins at a multiple of 64 and has bytes to spare behind its end."""
    room = aligned(len(stream) + _SLACK)
    room[: len(stream)] = stream
    return room


def matvec_call(
    packed: Packed,
    stream: npt.NDArray[np.uint8],
    *,
    isa: str,
    tokens: int,
    x: Place,
    y: Place,
    added: bool = False,
    part: tuple[int, int] | None = None,
) -> Call:
    """The product of a packed matrix and rows in the state.

    Args:
        packed: The matrix.
        stream: Its bytes as `stored`.
        isa: Instruction set.
        tokens: Rows.
        x: Inputs: floats, or bytes of `token_bytes`; 64 at a time are read.
        y: Outputs, float32; 4 at a time are written.
        added: Whether to add to what is there.
        part: Blocks of four outputs from, up to (default: all).
    """
    first, last = part or (0, packed.blocks)
    assert HEAD * packed.blocks <= len(packed.stream)
    levels = aligned(64)
    levels[:] = np.tile(packed.levels.view(np.uint8), 4)
    values = {
        "stream": stream.ctypes.data + stream_length(packed, first),
        "levels": levels.ctypes.data,
        "byte_masks": byte_masks().ctypes.data,
        "lane_places": lane_places().ctypes.data,
        **{"blocks": last - first, "chunks": packed.chunks},
        **{"x": x.at, "x_bytes": x.bytes, "x_scale": x.scale},
        **{"y": y.at + 4 * ROWS * first, "y_bytes": y.bytes, "added": int(added)},
    }
    table = np.array([values[name] for name in MATVEC_SLOTS], np.int64)
    kernel = matvec_kernel(MatvecSpec(isa=isa, format=packed.format, tokens=tokens))
    return Call(kernel=kernel, table=table, held=(stream, levels, byte_masks(), lane_places()))


def matvec_calls(
    packed: Packed,
    stream: npt.NDArray[np.uint8],
    *,
    threads: int,
    isa: str,
    tokens: int,
    x: Place,
    y: Place,
    added: bool = False,
) -> tuple[Call, ...]:
    """`matvec_call` in parts, one for each thread; the outputs are the same."""
    edges = [packed.blocks * number // threads for number in range(threads + 1)]
    parts = [part for part in itertools.pairwise(edges) if part[1] > part[0]]
    return tuple(
        matvec_call(packed, stream, isa=isa, tokens=tokens, x=x, y=y, added=added, part=part)
        for part in parts
    )
