"""Packing of sparse blocks in plain steps, array by array: what the library's has to equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ws_learner.deploy.runtime.codegen.block_format import Blocks, aligned

__all__ = ["plain_blocks", "plain_fill"]

_DEEP = 16


def _shadow_masks(weight: npt.NDArray[np.generic], rows: int, inputs: int) -> npt.NDArray[np.bool_]:
    """(block rows, block columns): which blocks hold anything. The matrix is padded already."""
    n, k = weight.shape
    cut = (weight != 0).reshape(n // rows, rows, k // inputs, inputs)
    live: npt.NDArray[np.bool_] = cut.any(axis=(1, 3))
    return live


def _padded(weight: npt.NDArray[np.generic], inputs: int) -> npt.NDArray[np.generic]:
    """Outputs to a multiple of 16, inputs to one of a block's."""
    n, k = weight.shape
    return np.pad(weight, ((0, -n % 16), (0, -k % inputs)))


def plain_fill(
    weight: npt.NDArray[np.generic], rows: int, inputs: int, *, padding: bool = True
) -> float:
    """Share of nonzero weights among those that blocks of this shape would store; 1 if none.

    Zeros that are stored beyond the matrix count only with `padding`.
    """
    live = _shadow_masks(_padded(weight, inputs), rows, inputs)
    n, k = (weight.shape[0] + -weight.shape[0] % 16, live.shape[1] * inputs)
    if not padding:
        n, k = weight.shape
    down = np.clip(n - rows * np.arange(live.shape[0]), 0, rows)
    along = np.clip(k - inputs * np.arange(live.shape[1]), 0, inputs)
    stored = int(down @ live @ along)
    return float(np.count_nonzero(weight)) / stored if stored else 1.0


def plain_blocks(
    weight: npt.NDArray[np.generic],
    rows: int,
    inputs: int,
    *,
    packed: int,
    panel: int,
    chunk: int = 256,
    deep: bool = False,
) -> Blocks:
    """Collect the blocks that hold a nonzero weight, by sorting them into segments."""
    whole = _padded(weight, inputs)
    live = _shadow_masks(whole, rows, inputs)
    down, along = np.nonzero(live)
    segment, segments = _segments(live.shape, down, along, panel=panel, chunk_blocks=chunk // rows)
    order = np.argsort(segment, kind="stable")
    down, along, segment = down[order], along[order], segment[order]
    cut = whole.reshape(live.shape[0], rows, live.shape[1], inputs)
    blocks = cut[down, :, along, :]  # (B, rows, inputs)
    indices = (along % panel).astype(np.uint16)
    counts = np.bincount(segment, minlength=segments)
    if deep:
        blocks, indices, counts = _deepened(blocks, indices, segment, counts)
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    data = np.frombuffer(_laid_out(blocks, packed=packed, deep=deep).tobytes(), np.uint8)
    values = aligned(data.size)
    values[:] = data
    return Blocks(values=values, indices=indices, pointers=pointers, panel=panel, chunk=chunk)


def _segments(
    shape: tuple[int, ...],
    down: npt.NDArray[np.int64],
    along: npt.NDArray[np.int64],
    *,
    panel: int,
    chunk_blocks: int,
) -> tuple[npt.NDArray[np.int64], int]:
    """Number of each block's segment, and how many there are."""
    panels = -(-shape[1] // panel)
    chunk = down // chunk_blocks
    in_chunk = np.minimum(chunk_blocks, shape[0] - chunk * chunk_blocks)
    number = chunk * chunk_blocks * panels + (along // panel) * in_chunk + down % chunk_blocks
    return number, shape[0] * panels


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
