"""Last part of a kernel: sums of a chunk of outputs become outputs.

Integer sums lose the zero point's share and get their scale; then bias, activation and, if the
next layer wants bytes, quantisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.arithmetic import activate, float_at, quantise
from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, I8, I32, Emitter
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.codegen.tile_pack import interleave, tile_at

__all__ = ["Chunk", "finish_chunk", "finished", "put"]

_TOKENS = 8  # finished together


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Sums that are finished together.

    Attributes:
        sums: Their address.
        y: Address of the whole output.
        rows: First output, and one past the last.
        first: First token.
        end: The first token that is none.
    """

    sums: Any
    y: Any
    rows: tuple[Any, Any]
    first: Any
    end: Any


def finish_chunk(e: Emitter, spec: Spec, table: dict[str, Any], chunk: Chunk) -> None:
    """Turn sums into values of the output."""
    if spec.layout == "channels":
        _to_channels(e, spec, table, chunk)
        return
    if spec.result == "tile":
        _to_tile(e, spec, table, chunk)
        return
    lanes, width = e.lanes, spec.vectors * e.lanes * 4
    kind = ir.VectorType((e.floats if spec.dot == "fma" else e.ints).element, _TOKENS)
    # All outputs of 8 tokens before the next 8: few lines of memory that share a set of the first
    # cache are written at a time, which is what rows of a multiple of 4 KiB do.
    with (
        e.loop(0, spec.vectors * lanes, _TOKENS) as token,
        e.loop(chunk.rows[0], chunk.rows[1], lanes) as n,
    ):
        block = e.at(chunk.sums, e.add(e.mul(e.sub(n, chunk.rows[0]), width), e.mul(token, 4)))
        found = [e.load(kind, block, j * width) for j in range(lanes)]
        wide = [e.join(found[j::_TOKENS]) for j in range(_TOKENS)]
        terms = _across(e, spec, table, n)
        results = [finished(e, spec, table, v, terms) for v in e.transpose(wide)]
        _put_tokens(
            e, spec, table, results, y=chunk.y, start=e.add(chunk.first, token), end=chunk.end, n=n
        )


def _to_tile(e: Emitter, spec: Spec, table: dict[str, Any], chunk: Chunk) -> None:
    """Rows of outputs are rows of the next kernel's inputs: nothing changes places."""
    width = spec.vectors * e.lanes * 4
    tile = tile_at(e, spec, chunk.y, chunk.first, table["target_bytes"])
    kind = e.floats if spec.dot == "fma" else e.ints
    with e.loop(chunk.rows[0], chunk.rows[1], spec.packed) as n:
        block = e.at(chunk.sums, e.mul(e.sub(n, chunk.rows[0]), width))
        row = e.at(tile, e.mul(e.div(n, spec.packed), width))
        terms = [_down(e, spec, table, e.add(n, p)) for p in range(spec.packed)]
        for q in range(spec.vectors):
            parts = []
            for p, of_row in enumerate(terms):
                values = e.load(kind, block, p * width + q * e.lanes * 4)
                parts.append(finished(e, spec, table, values, of_row))
            e.store(interleave(e, parts) if spec.int8 else parts[0], row, q * e.lanes * 4)


def _down(e: Emitter, spec: Spec, table: dict[str, Any], n: Any) -> tuple[Any, Any, Any]:
    """Bias, scale and correction of output `n`, each in all lanes."""
    at = e.mul(n, 4)
    bias = e.splat(e.load(F32, table["bias"], at))
    if not spec.int8:
        return bias, None, None
    scale = e.splat(e.load(F32, table["scale"], at))
    return bias, scale, e.splat(e.load(I32, table["correction"], at))


def _put_tokens(
    e: Emitter,
    spec: Spec,
    table: dict[str, Any],
    results: list[Any],
    *,
    y: Any,
    start: Any,
    end: Any,
    n: Any,
) -> None:
    """Store a token's lanes each; masks are made only at the edges, for they take their time."""
    size = 1 if spec.result == "u8" else 4
    room = e.sub(table["outputs"], n)
    places = [
        e.mul(e.add(e.mul(e.add(start, j), table["outputs"]), n), size) for j in range(_TOKENS)
    ]
    inside = e.builder.and_(
        e.builder.icmp_signed("<=", e.add(start, _TOKENS), end),
        e.builder.icmp_signed(">=", room, e.word(e.lanes)),
    )
    with e.builder.if_else(inside) as (then, otherwise):
        with then:
            for place, result in zip(places, results, strict=True):
                e.store(result, y, place)
        with otherwise:
            for j, (place, result) in enumerate(zip(places, results, strict=True)):
                there = e.builder.icmp_signed("<", e.add(start, j), end)
                mask = e.below(e.builder.select(there, room, e.word(0)))
                e.store_masked(result, y, place, mask)


def _across(e: Emitter, spec: Spec, table: dict[str, Any], n: Any) -> tuple[Any, Any, Any]:
    """Bias, scale and correction of the outputs from `n` on, one in each lane."""
    at = e.mul(n, 4)
    bias = e.load(e.floats, table["bias"], at)
    if not spec.int8:
        return bias, None, None
    return bias, e.load(e.floats, table["scale"], at), e.load(e.ints, table["correction"], at)


def finished(
    e: Emitter, spec: Spec, table: dict[str, Any], values: Any, terms: tuple[Any, Any, Any]
) -> Any:
    """Scale, add, activate, quantise."""
    bias, scale, correction = terms
    if spec.int8:
        values = e.builder.add(values, correction)
        if spec.result == "i32":
            return values
        values = e.builder.sitofp(values, e.floats)
    if spec.int8 and spec.result in ("u8", "tile"):
        whole = _as_bytes(e, spec, table, values, terms)
        narrow = ir.VectorType(I8, e.lanes)
        return whole if spec.result == "tile" else e.builder.trunc(whole, narrow)
    values = e.fma(values, scale, bias) if spec.int8 else e.builder.fadd(values, bias)
    return activate(e, values, spec.activation)


def _as_bytes(
    e: Emitter, spec: Spec, table: dict[str, Any], values: Any, terms: tuple[Any, Any, Any]
) -> Any:
    bias, scale, _ = terms
    inverse, zero = (float_at(e, table["quantisation"], place) for place in (2, 3))
    scale = e.constant(1.0) if scale is None else scale
    if spec.activation == "gelu":
        return quantise(e, activate(e, e.fma(values, scale, bias), "gelu"), inverse, zero)
    # One multiply-add does both scales: LLVM takes these products out of the tokens' way.
    least = zero if spec.activation == "relu" else None
    both, shift = e.builder.fmul(scale, inverse), e.fma(bias, inverse, zero)
    return quantise(e, values, both, shift, least=least)


def put(
    e: Emitter, spec: Spec, table: dict[str, Any], values: Any, *, y: Any, at: Any, room: Any
) -> None:
    """Store the first `room` lanes at element `at`."""
    size = 1 if spec.result == "u8" else 4
    e.store_masked(values, y, e.mul(at, size), e.below(room))


def _to_channels(e: Emitter, spec: Spec, table: dict[str, Any], chunk: Chunk) -> None:
    width = spec.vectors * e.lanes * 4
    with e.loop(chunk.rows[0], e.least(chunk.rows[1], table["outputs"])) as n:
        block = e.at(chunk.sums, e.mul(e.sub(n, chunk.rows[0]), width))
        terms = _down(e, spec, table, n)
        for q in range(spec.vectors):
            kind = e.floats if spec.dot == "fma" else e.ints
            values = e.load(kind, block, q * e.lanes * 4)
            token = e.add(chunk.first, q * e.lanes)
            result = finished(e, spec, table, values, terms)
            place = e.add(e.mul(n, table["stride"]), token)
            put(e, spec, table, result, y=chunk.y, at=place, room=e.sub(chunk.end, token))
