"""A weight matrix as sparse blocks, in the order a kernel reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ws_learner.deploy.runtime.codegen.live_blocks import LiveBlocks

__all__ = ["Blocks", "aligned", "pack_blocks"]

_DEEP = 16
_WORDS = {1: np.uint8, 4: np.uint32, 8: np.uint64, 16: np.complex128}
"""Bytes of a block's row, and a type of one number that holds them: those are gathered fastest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """Segments of blocks; see `tile_multiply` for their order.

    Attributes:
        values: Bytes of the weights, block by block, starting at a multiple of 64.
        indices: (blocks,) number of a block's inputs within its panel, in blocks.
        pointers: (segments + 1,) first block of each segment.
        panel: Blocks along the inputs in a panel.
        chunk: Outputs in a chunk.
    """

    values: npt.NDArray[np.uint8]
    indices: npt.NDArray[np.uint16]
    pointers: npt.NDArray[np.uint32]
    panel: int
    chunk: int


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """Zeroed bytes that begin at a multiple of 64."""
    whole = np.zeros(size + 64, np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + size]


def _padded(weight: npt.NDArray[np.generic], inputs: int) -> npt.NDArray[np.generic]:
    """Outputs to a multiple of 16, inputs to one of a block's."""
    n, k = weight.shape
    if not (n % 16 or k % inputs):
        return weight
    return np.pad(weight, ((0, -n % 16), (0, -k % inputs)))


def pack_blocks(
    weight: npt.NDArray[np.generic],  # (N, K) float32, or int8
    rows: int,
    inputs: int,
    *,
    packed: int,
    panel: int,
    chunk: int = 256,
    deep: bool = False,
    live: LiveBlocks | None = None,
) -> Blocks:
    """Collect the blocks that hold a nonzero weight.

    Args:
        weight: The matrix; it is padded with zeros where blocks do not divide it.
        rows: Outputs of a block; divides 16.
        inputs: Inputs of a block.
        packed: Inputs in 32 bits: 1 floats, 4 bytes, or 2 halves, to which int8 is widened.
        panel: Blocks along the inputs in a panel, at most 65,536.
        chunk: Outputs in a chunk, a multiple of 16.
        deep: Fill segments up to 16 blocks and interleave these, as AMX tiles want it.
        live: Of this matrix, if that is known.
    """
    grid = (live or LiveBlocks(weight)).grid(rows, inputs)
    down, along, counts = _in_order(grid, panel=panel, chunk_blocks=chunk // rows)
    blocks = _gathered(_padded(weight, inputs), rows, inputs, down, along)
    indices = (along % panel).astype(np.uint16)
    if deep:
        segment = np.repeat(np.arange(len(counts)), counts)
        blocks, indices, counts = _deepened(blocks, indices, segment, counts)
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    ordered = _laid_out(blocks, packed=packed, deep=deep)
    values = aligned(ordered.nbytes)
    values.view(ordered.dtype).reshape(ordered.shape)[...] = ordered
    return Blocks(values=values, indices=indices, pointers=pointers, panel=panel, chunk=chunk)


def _in_order(
    grid: npt.NDArray[np.bool_], *, panel: int, chunk_blocks: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row and column of each live block, segment by segment, and how many each segment has."""
    downs, alongs, counts = [], [], []
    for first in range(0, grid.shape[0], chunk_blocks):
        for begin in range(0, grid.shape[1], panel):
            part = grid[first : first + chunk_blocks, begin : begin + panel]
            down, along = np.nonzero(part)
            downs.append(down + first)
            alongs.append(along + begin)
            counts.append(np.count_nonzero(part, axis=1))
    empty = [np.zeros(0, np.int64)]
    return tuple(np.concatenate(parts or empty) for parts in (downs, alongs, counts))  # type: ignore[return-value]


def _gathered(
    whole: npt.NDArray[np.generic],
    rows: int,
    inputs: int,
    down: npt.NDArray[np.int64],
    along: npt.NDArray[np.int64],
) -> npt.NDArray[np.generic]:
    """(blocks, rows, inputs) of a padded matrix."""
    wide = _WORDS.get(whole.itemsize * inputs)
    columns = whole.shape[1] // inputs
    if wide is None:
        cut = whole.reshape(len(whole) // rows, rows, columns, inputs)
        return cut[down, :, along, :]
    words: npt.NDArray[np.generic] = np.ascontiguousarray(whole).view(wide).reshape(-1)
    place = (down * rows * columns + along)[:, None] + np.arange(rows) * columns
    found: npt.NDArray[np.generic] = words[place].view(whole.dtype)
    return found.reshape(len(down), rows, inputs)


def _deepened(
    blocks: npt.NDArray[np.generic],
    indices: npt.NDArray[np.uint16],
    segment: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    full = -(-counts // _DEEP) * _DEEP
    starts, old = np.cumsum(full) - full, np.cumsum(counts) - counts
    place = starts[segment] + np.arange(len(segment)) - old[segment]
    wide = np.zeros((int(full.sum()), *blocks.shape[1:]), blocks.dtype)
    where = np.zeros(len(wide), np.uint16)
    wide[place], where[place] = blocks, indices
    return wide, where, full


def _laid_out(
    blocks: npt.NDArray[np.generic], *, packed: int, deep: bool
) -> npt.NDArray[np.generic]:
    """(B, rows, inputs) to (B, inputs / packed, rows, packed), or 16 blocks to a tile's rows."""
    count, rows, inputs = blocks.shape
    if deep:  # (tiles, 16 outputs, 16 blocks, 4 inputs)
        return blocks.reshape(-1, _DEEP, rows, inputs).transpose(0, 2, 1, 3)
    if packed == 2:
        blocks = blocks.astype(np.int16)
    return blocks.reshape(count, rows, inputs // packed, packed).transpose(0, 2, 1, 3)
