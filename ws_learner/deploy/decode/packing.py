"""Matrices as streams that a kernel reads once, from the first byte to the last.

Four rows make a block. A block is a head of 48 bytes (scale, correction and bias of its rows), the
masks (8 bytes for each 64 weights, if there are any), the groups' scales (if there are any), and
the values; masks, scales and values by 64 inputs, of each the four rows one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ws_learner.core import check_settings
from ws_learner.deploy.decode.numbers import Bytes, Floats, Nibbles, RowBytes

__all__ = [
    *("CHUNK", "HEAD", "ROWS", "Format", "Packed"),
    *("pack_bytes", "pack_floats", "pack_nibbles", "stream_length"),
]

ROWS, CHUNK, HEAD = 4, 64, 48
Raw = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Format:
    """What a stream holds.

    Attributes:
        values: Of 32, 8 or 4 bits.
        masked: Whether zeros are left out.
        group: Inputs that share a scale; 0 without groups.
    """

    values: Literal["f32", "i8", "i4"]
    masked: bool
    group: int = 0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """A matrix as a stream.

    Attributes:
        format: What it holds.
        outputs: Rows.
        inputs: Columns.
        levels: (16,) int8, the 4-bit codes' levels; zeros without.
        stream: The bytes.
    """

    format: Format
    outputs: int
    inputs: int
    levels: Bytes
    stream: Raw

    @property
    def blocks(self) -> int:
        """Blocks of four rows."""
        return -(-self.outputs // ROWS)

    @property
    def chunks(self) -> int:
        """Chunks of 64 inputs."""
        return -(-self.inputs // CHUNK)


def pack_floats(weight: Floats, *, bias: Floats | None = None, masked: bool) -> Packed:
    """A matrix (N, K) of floats."""
    cut = _cut(weight.astype(np.float32))
    ones = np.ones(len(weight), np.float32)
    form = Format(values="f32", masked=masked)
    return _pack(form, weight.shape, cut, cut != 0, head=(ones, 0 * ones, bias))


def pack_bytes(matrix: RowBytes, *, bias: Floats | None = None, masked: bool) -> Packed:
    """A matrix (N, K) of bytes."""
    cut = _cut(matrix.values)
    sums = -128 * matrix.values.astype(np.int32).sum(axis=1, dtype=np.int32)
    head = (matrix.scale, sums.view(np.float32), bias)
    form = Format(values="i8", masked=masked)
    return _pack(form, matrix.values.shape, cut, cut != 0, head=head)


def pack_nibbles(matrix: Nibbles, *, bias: Floats | None = None, masked: bool) -> Packed:
    """A matrix (N, K) of 4-bit codes; without a mask all of `matrix.mask` is set."""
    n, k = matrix.codes.shape
    columns = -k % CHUNK
    nothing = int(np.abs(matrix.levels.astype(int)).argmin())  # beyond the last input, the level 0
    codes, mask = _cut(matrix.codes, fill=nothing), _cut(matrix.mask) != 0
    scale = np.pad(matrix.scale, ((0, 0), (0, columns // matrix.group)))
    sums = -128 * matrix.floats().astype(np.float64).sum(axis=1)
    head = (np.ones(n, np.float32), sums.astype(np.float32), bias)
    form = Format(values="i4", masked=masked, group=matrix.group)
    each = CHUNK // matrix.group
    rows = np.pad(scale, ((0, -n % ROWS), (0, 0))).reshape(-1, ROWS, scale.shape[1] // each, each)
    return _pack(
        form,
        (n, k),
        codes,
        mask,
        head=head,
        scales=rows.swapaxes(1, 2),
        levels=matrix.levels,
    )


def _cut(matrix: npt.NDArray[np.generic], *, fill: int = 0) -> npt.NDArray[np.generic]:
    """(N, K) as (blocks, chunks, 4, 64)."""
    n, k = matrix.shape
    padded = np.pad(matrix, ((0, -n % ROWS), (0, -k % CHUNK)), constant_values=fill)
    blocks = padded.reshape(len(padded) // ROWS, ROWS, -1, CHUNK).swapaxes(1, 2)
    return np.ascontiguousarray(blocks)


def _pack(
    form: Format,
    shape: tuple[int, ...],
    cut: npt.NDArray[np.generic],
    mask: npt.NDArray[np.bool_],
    *,
    head: tuple[Floats, Floats, Floats | None],
    scales: npt.NDArray[np.uint16] | None = None,
    levels: Bytes | None = None,
) -> Packed:
    blocks, chunks = cut.shape[:2]
    columns = [
        np.zeros(len(head[0]), np.float32) if part is None else part.astype(np.float32, copy=False)
        for part in head
    ]
    bare = np.stack([np.pad(part, (0, -len(part) % ROWS)).reshape(-1, ROWS) for part in columns], 1)
    fronts: list[Raw] = [np.ascontiguousarray(bare).view(np.uint8).reshape(blocks, HEAD)]
    if form.masked:
        fronts.append(np.packbits(mask, axis=-1, bitorder="little").reshape(blocks, -1))
    if scales is not None:
        fronts.append(np.ascontiguousarray(scales).view(np.uint8).reshape(blocks, -1))
    taken = mask if form.masked else np.ones(cut.shape, bool)
    counts = taken.sum(axis=-1, dtype=np.int64).reshape(blocks, chunks * ROWS)
    values, sizes = _values(form, cut[taken], counts)
    front = np.concatenate(fronts, axis=1)
    ends = np.cumsum(front.shape[1] + sizes)
    starts = ends - sizes - front.shape[1]
    stream = np.zeros(int(ends[-1]) if blocks else 0, np.uint8)
    stream[starts[:, None] + np.arange(front.shape[1])] = front
    before = np.cumsum(sizes) - sizes
    places = np.repeat(starts + front.shape[1] - before, sizes)
    stream[places + np.arange(len(values))] = values
    return Packed(
        format=form,
        outputs=shape[0],
        inputs=shape[1],
        levels=np.zeros(16, np.int8) if levels is None else levels,
        stream=stream,
    )


def _values(
    form: Format, taken: npt.NDArray[np.generic], counts: npt.NDArray[np.int64]
) -> tuple[Raw, npt.NDArray[np.int64]]:
    """The values' bytes in order, and how many each block has."""
    if form.values != "i4":
        raw = np.ascontiguousarray(taken).view(np.uint8)
        return raw, counts.sum(axis=1) * taken.dtype.itemsize
    each = (counts + 1) // 2  # the four bits of a chunk's row begin with a byte
    flat = counts.reshape(-1)
    firsts = 2 * (np.cumsum(each) - each.reshape(-1))
    within = np.arange(len(taken)) - np.repeat(np.cumsum(flat) - flat, flat)
    nibbles = np.zeros(2 * int(each.sum()), np.uint8)
    nibbles[np.repeat(firsts, flat) + within] = taken
    high: Raw = np.left_shift(nibbles[1::2], 4, dtype=np.uint8)
    pairs: Raw = nibbles[::2] | high
    sums: npt.NDArray[np.int64] = each.sum(axis=1)
    return pairs, sums


def stream_length(packed: Packed, blocks: int | None = None) -> int:
    """Bytes of the first blocks (default: all) as a kernel reads them.

    -1 if that is beyond the stream's end.
    """
    blocks = packed.blocks if blocks is None else blocks
    form, chunks, stream = packed.format, packed.chunks, packed.stream
    scales = 2 * ROWS * chunks * (CHUNK // form.group) if form.group else 0
    whole = {"f32": 4 * CHUNK, "i8": CHUNK, "i4": CHUNK // 2}[form.values] * ROWS * chunks
    if not form.masked:
        return blocks * (HEAD + scales + whole)
    at, masks = 0, 8 * ROWS * chunks
    for _ in range(blocks):
        own = stream[at + HEAD : at + HEAD + masks]
        if len(own) < masks:
            return -1
        at += HEAD + masks + scales + _values_length(own, form.values)
    return at


def _values_length(masks: Raw, values: str) -> int:
    counts = np.bitwise_count(masks)
    if values == "i4":
        each = counts.reshape(-1, 8).sum(axis=1, dtype=np.int64)
        return int(((each + 1) // 2).sum())
    return int(counts.sum(dtype=np.int64)) * (4 if values == "f32" else 1)
