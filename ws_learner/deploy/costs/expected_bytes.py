"""Expected size of a layer in a `.wsr` file, for random zeros of a pattern."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from ws_learner.deploy.runtime.sparse_coding import (
    BLOCKS,
    VALUE_BYTES,
    estimated_bytes,
    low_bits,
)
from ws_learner.pruning import NM, BlockPattern, ChannelPattern, Pattern, PerLayerNM

__all__ = ["Coded", "coded", "entry_bytes"]


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A matrix as `encode_sparse` would store it.

    Attributes:
        size: Bytes of its values and positions.
        head: What the file's header says of it.
    """

    size: int
    head: dict[str, Any]


def coded(shape: tuple[int, int], pattern: Pattern, density: float, values: str) -> Coded:
    """The expected coding.

    Args:
        shape: (N, K), as `encode_sparse` takes it.
        pattern: Of the zeros.
        density: Share of nonzero weights, in [0, 1].
        values: `fp32`, `bf16` or `int8`.
    """
    each, (n, k) = VALUE_BYTES[values], shape
    plain = Coded(size=n * k * each, head={"shape": [n, k], "values": values, "block": None})
    counts = {block: _live(shape, block, pattern, density) for block in BLOCKS}
    costs = {
        block: estimated_bytes(count, _blocks(shape, block), block, each)
        for block, count in counts.items()
    }
    block = min(BLOCKS, key=costs.__getitem__)
    if costs[block] >= plain.size:
        return plain
    count, total = round(counts[block]), _blocks(shape, block)
    low = low_bits(count, total)
    unary, rest = round(count * (1 + _quotient(count / total, low))), count * low
    parts = [-(-unary // 8), -(-rest // 8)]
    head = {"shape": [n, k], "values": values, "block": list(block), "low": low}
    head |= {"live": count, "bits": unary, "parts": parts}
    return Coded(size=sum(parts) + count * block[0] * block[1] * each, head=head)


def entry_bytes(name: str, shape: tuple[int, ...], kind: str, coding: Coded | None) -> int:
    """Bytes of a tensor's own lines in the header.

    Args:
        name: Of the tensor.
        shape: Of it.
        kind: Its type, such as `float32`.
        coding: Of a matrix; None for tensors that are stored as they are.
    """
    size = coding.size if coding else 4 * math.prod(shape)
    entry = {"shape": list(shape), "dtype": kind, "coding": coding.head if coding else {}}
    return len(json.dumps({name: entry | {"at": 10**6, "size": size}}))


def _blocks(shape: tuple[int, int], block: tuple[int, int]) -> int:
    return -(-shape[0] // block[0]) * -(-shape[1] // block[1])


def _quotient(share: float, low: int) -> float:
    """Mean of gap >> low, where each block is live with this share, on its own."""
    if share >= 1:
        return 0.0
    zeros = (1 - share) ** (1 << low)
    return zeros / (1 - zeros) if zeros < 1 else 0.0


def _live(
    shape: tuple[int, int], block: tuple[int, int], pattern: Pattern, density: float
) -> float:
    """Expected number of blocks that hold anything."""
    rows, inputs = block
    if isinstance(pattern, NM | PerLayerNM):
        if pattern.columns:
            rows, inputs = inputs, rows
        kept = round(density * pattern.m) if isinstance(pattern, PerLayerNM) else pattern.n
        # Where the zeros are fewer than the pattern makes, some groups have none.
        pruned = min((1 - density) / (1 - kept / pattern.m), 1.0) if kept < pattern.m else 0.0
        empty: float = (pruned * _empty_in_groups(inputs, pattern.m, kept)) ** rows
    else:
        high, wide = _unit(pattern, shape)
        empty = (1 - density) ** (-(-rows // high) * -(-inputs // wide))
    return _blocks(shape, block) * (1 - empty)


def _unit(pattern: Pattern, shape: tuple[int, int]) -> tuple[int, int]:
    if isinstance(pattern, BlockPattern):
        return pattern.outputs, pattern.inputs
    if isinstance(pattern, ChannelPattern):
        return (1, shape[1]) if pattern.axis == "outputs" else (shape[0], 1)
    return 1, 1


def _empty_in_groups(inputs: int, group: int, kept: int) -> float:
    """Probability that so many neighbours are zero, where each group has so many that are not."""
    found = 1.0
    while inputs > 0:
        part = min(inputs, group)
        found *= math.comb(group - kept, part) / math.comb(group, part)
        inputs -= part
    return found
