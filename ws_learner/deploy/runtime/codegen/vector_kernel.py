"""Matrix times vector for blocks of 16 outputs: outputs in the lanes, one token at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.arithmetic import dot, int_at
from ws_learner.deploy.runtime.codegen.llvm_emitter import I16, I64, Emitter
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.codegen.tile_epilogue import finished, put
from ws_learner.deploy.runtime.codegen.tile_multiply import segment_bounds
from ws_learner.deploy.runtime.codegen.tile_pack import row_lanes

__all__ = ["emit_vector"]


def emit_vector(
    e: Emitter,
    spec: Spec,
    table: dict[str, Any],
    *,
    x: Any,
    y: Any,
    scratch: Any,
    tokens: tuple[Any, Any],
) -> None:
    """Each token is copied to `scratch` (quantised if need be), then all rows of blocks read it."""
    size = 1 if spec.source == "u8" else 4
    padded = e.mul(e.div(e.add(table["outputs"], 15), 16), 16)
    with e.loop(tokens[0], tokens[1]) as token:
        base = e.at(x, e.mul(e.mul(token, table["inputs"]), size))
        with e.loop(0, table["inputs"], e.lanes * spec.packed) as k:
            words = row_lanes(e, spec, table, base=base, k=k)
            e.store(words, scratch, e.mul(e.div(k, spec.packed), 4))
        origin = e.variable(I64)
        origin.set(e.word(0))
        with e.loop(0, padded, table["chunk"]) as row:
            last = e.least(e.add(row, table["chunk"]), padded)
            in_chunk = e.div(e.sub(last, row), 16)
            with e.loop(row, last, 16) as n:
                own = e.add(origin.get(), e.div(e.sub(n, row), 16))
                sums = _row(e, spec, table, scratch=scratch, segment=own, step=in_chunk)
                for part, values in enumerate(sums):
                    at = e.add(n, part * e.lanes)
                    _finish(e, spec, table, values, y=y, token=token, n=at)
            origin.set(e.add(origin.get(), e.mul(in_chunk, _panels(e, spec, table))))


def _panels(e: Emitter, spec: Spec, table: dict[str, Any]) -> Any:
    blocks = e.div(e.add(table["inputs"], spec.inputs - 1), spec.inputs)
    return e.div(e.add(blocks, e.sub(table["panel"], 1)), table["panel"])


def _row(
    e: Emitter, spec: Spec, table: dict[str, Any], *, scratch: Any, segment: Any, step: Any
) -> list[Any]:
    """Sums of 16 outputs over all panels, in one vector or two."""
    kind, parts = (e.floats if spec.dot == "fma" else e.ints), 16 // e.lanes
    # As many sums as steps of a block: a single sum would wait for each addition.
    kept = [[e.variable(kind) for _ in range(spec.steps)] for _ in range(parts)]
    for variable in (v for part in kept for v in part):
        variable.set(ir.Constant(kind, None))
    with e.loop(0, _panels(e, spec, table)) as p:
        begin, end = segment_bounds(e, table, e.add(segment, e.mul(p, step)))
        panel = e.at(scratch, e.mul(e.mul(p, table["panel"]), 4 * spec.steps))
        with e.loop(begin, end) as block:
            index = e.builder.zext(e.load(I16, table["indices"], e.mul(block, 2)), I64)
            inputs = e.at(panel, e.mul(index, 4 * spec.steps))
            weights = e.at(table["values"], e.mul(block, 64 * spec.steps))
            for s in range(spec.steps):
                x = e.builder.bitcast(int_at(e, inputs, 4 * s), kind)
                for part in range(parts):
                    w = e.load(kind, weights, 64 * s + part * 4 * e.lanes)
                    kept[part][s].set(dot(e, spec.dot, kept[part][s].get(), x, w))
    plus = e.builder.fadd if spec.dot == "fma" else e.builder.add
    sums = []
    for first, *others in kept:
        total = first.get()
        for variable in others:
            total = plus(total, variable.get())
        sums.append(total)
    return sums


def _finish(
    e: Emitter, spec: Spec, table: dict[str, Any], values: Any, *, y: Any, token: Any, n: Any
) -> None:
    at = e.mul(n, 4)
    scale = correction = None
    if spec.int8:
        scale = e.load(e.floats, table["scale"], at)
        correction = e.load(e.ints, table["correction"], at)
    terms = (e.load(e.floats, table["bias"], at), scale, correction)
    result = finished(e, spec, table, values, terms)
    place = e.add(e.mul(token, table["outputs"]), n)
    put(e, spec, table, result, y=y, at=place, room=e.sub(table["outputs"], n))
