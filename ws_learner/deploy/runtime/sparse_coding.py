"""Sparse tensor coding: positions and values of nonzero blocks.

The gaps between live blocks are coded as Golomb and Rice (1971, 1966) have it: a gap g becomes
g >> r ones, a zero, and the r lowest bits of g. For gaps of random masks that is within 5 % of
the least possible, log2 of the number of masks with as many blocks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    *("BLOCKS", "VALUE_BYTES", "decode_sparse", "encode_sparse", "estimated_bytes", "ideal_bytes"),
    "low_bits",
]

BLOCKS = ((1, 1), (2, 1), (4, 1), (1, 4), (4, 4), (16, 4))
"""Outputs x inputs; the cheapest is used."""
VALUE_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
Bytes = npt.NDArray[np.uint8]


def encode_sparse(
    matrix: npt.NDArray[np.generic], values: str
) -> tuple[dict[str, Any], list[Bytes]]:
    """Code a matrix.

    Args:
        matrix: (N, K) float32, or int8 for `int8`.
        values: How each is stored: `fp32`, `bf16` (rounded to nearest even) or `int8`.

    Returns:
        What `decode_sparse` must know, of JSON's types, and the parts to be laid end to end.
    """
    n, k = matrix.shape
    best = min(BLOCKS, key=lambda block: _cost(matrix, block, VALUE_BYTES[values]))
    if _cost(matrix, best, VALUE_BYTES[values]) >= matrix.size * VALUE_BYTES[values]:
        return {"shape": [n, k], "values": values, "block": None}, [_stored(matrix, values)]
    cut, live = _cut(matrix, best)
    gaps = np.diff(np.flatnonzero(live), prepend=-1) - 1
    low = low_bits(int(live.sum()), live.size)
    quotient, rest = gaps >> low, gaps & ((1 << low) - 1)
    unary = np.ones(int(quotient.sum()) + len(gaps), np.uint8)
    unary[np.cumsum(quotient + 1) - 1] = 0
    bits = (rest[:, None] >> np.arange(low)) & 1
    parts = [np.packbits(unary), np.packbits(bits.astype(np.uint8))]
    down, along = np.nonzero(live)
    inside = _stored(cut[down, :, along, :], values)
    head = {"shape": [n, k], "values": values, "block": list(best), "low": low}
    head |= {"live": len(gaps), "bits": len(unary), "parts": [p.size for p in parts]}
    return head, [*parts, inside]


def decode_sparse(head: dict[str, Any], data: Bytes) -> npt.NDArray[np.generic]:
    """Decode the matrix: float32, or int8.

    Args:
        head: As `encode_sparse` gave it; `check_head` checks one of a file.
        data: The parts.

    Raises:
        ValueError: The parts do not fit together.
    """
    n, k = head["shape"]
    if head["block"] is None:
        return _read(data, head["values"], n * k).reshape(n, k)
    (rows, inputs), low, count = head["block"], head["low"], head["live"]
    first, second = head["parts"]
    unary = np.unpackbits(data[:first])[: head["bits"]]
    ends = np.flatnonzero(unary == 0)
    bits = np.unpackbits(data[first : first + second])[: count * low].reshape(count, low)
    down, along = -(-n // rows), -(-k // inputs)
    if len(ends) != count:
        raise ValueError("gaps are damaged")
    quotient = np.diff(ends, prepend=-1) - 1
    if count and int(quotient.max()) > (down * along) >> low:
        raise ValueError("blocks lie outside the matrix")
    gaps = (quotient << low) + (bits.astype(np.int64) << np.arange(low)).sum(1)
    if float(gaps.sum(dtype=np.float64)) + count > down * along:
        raise ValueError("blocks lie outside the matrix")
    places = np.cumsum(gaps + 1) - 1
    inside = _read(data[first + second :], head["values"], count * rows * inputs)
    whole = np.zeros((down, along, rows, inputs), inside.dtype)
    whole.reshape(-1, rows, inputs)[places] = inside.reshape(count, rows, inputs)
    return whole.transpose(0, 2, 1, 3).reshape(down * rows, along * inputs)[:n, :k].copy()


def ideal_bytes(matrix: npt.NDArray[np.generic], bytes_each: int) -> float:
    """Least size for such a mask: log2 of (weights choose nonzeros), and the nonzero values."""
    live = int(np.count_nonzero(matrix))
    ways = (
        math.lgamma(matrix.size + 1) - math.lgamma(live + 1) - math.lgamma(matrix.size - live + 1)
    )
    return ways / math.log(2) / 8 + live * bytes_each


def _cut(
    matrix: npt.NDArray[np.generic], block: tuple[int, int]
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
    """The matrix as (down, rows, along, inputs), and which blocks hold anything."""
    rows, inputs = block
    n, k = matrix.shape
    whole = np.pad(matrix, ((0, -n % rows), (0, -k % inputs)))
    cut = whole.reshape(whole.shape[0] // rows, rows, whole.shape[1] // inputs, inputs)
    live: npt.NDArray[np.bool_] = (cut != 0).any(axis=(1, 3))
    return cut, live


def _cost(matrix: npt.NDArray[np.generic], block: tuple[int, int], size: int) -> float:
    _, live = _cut(matrix, block)
    return estimated_bytes(int(live.sum()), live.size, block, size)


def estimated_bytes(count: float, total: int, block: tuple[int, int], size: int) -> float:
    """What `count` live blocks of `total` take, roughly; by this the block is chosen.

    Args:
        count: Live blocks.
        total: All blocks.
        block: Their shape.
        size: Bytes of a value.
    """
    mean = total / max(count, 1)
    return count * (block[0] * block[1] * size + (math.log2(mean) + 2) / 8)


def low_bits(count: float, total: int) -> int:
    """Rice's parameter for `count` live blocks of `total`: 2^r nearest to ln 2 x the mean gap."""
    mean = (total - count) / max(count, 1)
    return max(0, round(math.log2(max(mean * math.log(2), 1e-9)))) if mean > 0 else 0


def _stored(values: npt.NDArray[np.generic], kind: str) -> Bytes:
    if kind == "int8":
        return np.frombuffer(values.astype(np.int8).tobytes(), np.uint8)
    floats = np.ascontiguousarray(values, dtype="<f4")
    if kind == "fp32":
        return np.frombuffer(floats.tobytes(), np.uint8)
    whole = floats.view("<u4")
    rounded = (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16
    return np.frombuffer(rounded.astype("<u2").tobytes(), np.uint8)


def _read(data: Bytes, kind: str, count: int) -> npt.NDArray[np.generic]:
    wanted = count * VALUE_BYTES[kind]
    if data.size < wanted:
        raise ValueError("values are missing")
    raw = data[:wanted].tobytes()
    if kind == "int8":
        return np.frombuffer(raw, np.int8).copy()
    if kind == "fp32":
        return np.frombuffer(raw, "<f4").astype(np.float32)
    return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype(np.float32)
