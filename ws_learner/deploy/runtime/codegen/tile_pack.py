"""First part of a kernel: a tile of T tokens is laid out as rows of T 32-bit lanes.

A row holds one input as floats, four as bytes, or two as 16-bit halves. Quantisation happens on
the way. Inputs past the last become zeros; tokens past the last repeat it and are never stored.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.arithmetic import float_at, quantise, squeeze
from ws_learner.deploy.runtime.codegen.llvm_emitter import I8, Emitter
from ws_learner.deploy.runtime.codegen.spec import Spec

__all__ = ["interleave", "pack", "row_lanes", "tile_at"]


def tile_at(e: Emitter, spec: Spec, tiles: Any, first: Any, size: Any) -> Any:
    """The tile of `size` bytes, of those that lie one after the other, that begins at a token."""
    return e.at(tiles, e.mul(e.div(first, spec.vectors * e.lanes), size))


def pack(
    e: Emitter, spec: Spec, table: dict[str, Any], *, x: Any, tile: Any, first: Any, end: Any
) -> None:
    """Fill `tile` from tokens `first` on."""
    if spec.layout == "channels":
        _from_channels(e, spec, table, x=x, tile=tile, first=first, end=end)
    else:
        _from_tokens(e, spec, table, x=x, tile=tile, first=first, end=end)


def _from_tokens(
    e: Emitter, spec: Spec, table: dict[str, Any], *, x: Any, tile: Any, first: Any, end: Any
) -> None:
    lanes, bytes_each = e.lanes, 4 if spec.source == "f32" else 1
    width = spec.vectors * lanes * 4
    row_bytes = e.mul(table["inputs"], bytes_each)
    with e.loop(0, spec.vectors) as q:
        start = e.add(first, e.mul(q, lanes))
        bases = [
            e.at(x, e.mul(e.least(e.add(start, j), e.sub(end, 1)), row_bytes)) for j in range(lanes)
        ]
        with e.loop(0, table["inputs"], lanes * spec.packed) as k:
            words = [_words(e, spec, table, base=base, k=k) for base in bases]
            column = e.add(e.mul(e.div(k, spec.packed), width), e.mul(q, 4 * lanes))
            for j, row in enumerate(e.transpose(words)):
                e.store(row, tile, e.add(column, j * width))


def row_lanes(e: Emitter, spec: Spec, table: dict[str, Any], *, base: Any, k: Any) -> Any:
    """One token's inputs from `k` on: a vector of 32-bit lanes."""
    return _words(e, spec, table, base=base, k=k)


def _words(e: Emitter, spec: Spec, table: dict[str, Any], *, base: Any, k: Any) -> Any:
    room = e.sub(table["inputs"], k)
    if spec.source == "u8" and spec.packed == 4:
        return _bytes(e, base=base, k=k, room=room)
    parts = []
    for part in range(spec.packed):
        begin = part * e.lanes
        mask, at = e.below(e.sub(room, begin)), e.add(k, begin)
        if spec.source == "u8":
            narrow = e.load_masked(ir.VectorType(I8, e.lanes), base, at, mask)
            parts.append(e.builder.zext(narrow, e.ints))
            continue
        loaded = e.load_masked(e.floats, base, e.mul(at, 4), mask)
        parts.append(_quantised(e, spec, table, loaded))
    return parts[0] if spec.packed == 1 else squeeze(e, parts)


def _bytes(e: Emitter, *, base: Any, k: Any, room: Any) -> Any:
    """Four bytes a lane, as they lie in memory."""
    kind, count = ir.VectorType(I8, 4 * e.lanes), 4 * e.lanes
    numbers = ir.Constant(kind, list(range(count)))
    limit = e.builder.trunc(e.least(room, count), I8)
    mask = e.builder.icmp_unsigned("<", numbers, e.splat(limit, count))
    return e.builder.bitcast(e.load_masked(kind, base, k, mask), e.ints)


def _quantised(e: Emitter, spec: Spec, table: dict[str, Any], values: Any) -> Any:
    if not spec.int8:
        return e.builder.bitcast(values, e.ints)
    numbers = table["quantisation"]
    return quantise(e, values, float_at(e, numbers, 0), float_at(e, numbers, 1))


def _from_channels(
    e: Emitter, spec: Spec, table: dict[str, Any], *, x: Any, tile: Any, first: Any, end: Any
) -> None:
    """Rows of the input are channels already; they are copied, and bytes interleaved."""
    lanes, packed = e.lanes, spec.packed
    width = spec.vectors * lanes * 4
    last = e.sub(table["inputs"], 1)
    with e.loop(0, table["inputs"], packed) as k:
        row = e.mul(e.div(k, packed), width)
        channels = [e.mul(e.least(e.add(k, p), last), table["stride"]) for p in range(packed)]
        for q in range(spec.vectors):
            token = e.add(first, q * lanes)
            mask = e.below(e.sub(end, token))
            parts = [
                _quantised(
                    e, spec, table, e.load_masked(e.floats, x, e.mul(e.add(c, token), 4), mask)
                )
                for c in channels
            ]
            word = parts[0] if packed == 1 else interleave(e, parts)
            e.store(word, tile, e.add(row, q * lanes * 4))
    if spec.inputs > spec.packed:
        _clear(e, spec, table, tile=tile, width=width)


def _clear(e: Emitter, spec: Spec, table: dict[str, Any], *, tile: Any, width: int) -> None:
    """Rows of a last, incomplete block: a zero weight must not meet a NaN there."""
    rows = e.div(e.add(table["inputs"], spec.packed - 1), spec.packed)
    whole = e.mul(e.div(e.add(table["inputs"], spec.inputs - 1), spec.inputs), spec.steps)
    with e.loop(rows, whole) as row:
        for q in range(spec.vectors):
            zero = ir.Constant(e.ints, None)
            e.store(zero, tile, e.add(e.mul(row, width), q * e.lanes * 4))


def interleave(e: Emitter, parts: list[Any]) -> Any:
    """Put part p into bits p * 32 / parts and up of every lane; parts are not negative."""
    word = parts[0]
    for p, part in enumerate(parts[1:], start=1):
        shift = ir.Constant(e.ints, [p * 32 // len(parts)] * e.lanes)
        word = e.builder.or_(word, e.builder.shl(part, shift))
    return word
