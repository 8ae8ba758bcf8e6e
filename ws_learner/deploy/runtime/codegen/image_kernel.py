"""Direct sparse convolution: blocks of weights times lanes of padded planes, without im2col.

Each vector of outputs has an address of its own in the planes, and each input (tap and channel) an
offset. Sums stay in registers over all inputs and are finished and written from there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.arithmetic import dot, int_at
from ws_learner.deploy.runtime.codegen.cpu import ISAS
from ws_learner.deploy.runtime.codegen.image_pack import pack_image
from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, I32, I64, PTR, Emitter, Variable
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.codegen.tile_epilogue import finished
from ws_learner.deploy.runtime.codegen.tile_multiply import segment_bounds

__all__ = ["IMAGE_SLOTS", "image_source"]

_POINTERS = (
    *("values", "offsets", "pointers", "scale", "bias", "correction", "quantisation"),
    *("phase_table", "places", "targets", "counts", "lanes", "full"),
)
IMAGE_SLOTS = (
    *_POINTERS,
    *("outputs", "channels", "height", "width", "planes", "phases", "phase_lanes", "wide"),
    *("pitch", "step_down", "step_across", "group", "image_bytes", "vectors", "output_bytes"),
)
"""The table's numbers. `group` images are packed at a time, `image_bytes` apart; an image has so
many `vectors` of outputs, and `output_bytes` for each output channel."""


def image_source(spec: Spec) -> str:
    """The kernel in LLVM's language; `begin` and `end` count images."""
    e = Emitter("kernel", arguments=[PTR] * 4 + [I64] * 2, lanes=ISAS[spec.isa].lanes)
    numbers, x, y, scratch, begin, end = e.arguments
    table: dict[str, Any] = {}
    for slot, name in enumerate(IMAGE_SLOTS):
        value = e.load(I64, numbers, 8 * slot)
        table[name] = e.builder.inttoptr(value, PTR) if name in _POINTERS else value
    area = e.mul(e.mul(table["height"], table["width"]), 4)
    x_bytes, y_bytes = (
        e.mul(table["channels"], area),
        e.mul(table["outputs"], table["output_bytes"]),
    )
    with e.loop(begin, end, table["group"]) as first:
        last = e.least(e.add(first, table["group"]), end)
        with e.loop(first, last) as image:
            planes = e.at(scratch, e.mul(e.sub(image, first), table["image_bytes"]))
            pack_image(e, spec, table, x=e.at(x, e.mul(image, x_bytes)), planes=planes)
        limit = e.mul(e.sub(last, first), table["vectors"])
        out = e.at(y, e.mul(first, y_bytes))
        with e.loop(0, limit, spec.vectors) as vector:
            _tile(e, spec, table, planes=scratch, out=out, vector=vector, limit=limit)
    return e.finish()


def _tile(
    e: Emitter, spec: Spec, table: dict[str, Any], *, planes: Any, out: Any, vector: Any, limit: Any
) -> None:
    """All outputs of a few vectors of positions."""
    bases = [
        e.at(planes, e.load(I64, table["places"], e.mul(e.add(vector, q), 8)))
        for q in range(spec.vectors)
    ]
    flag = e.load(I32, table["full"], e.mul(e.div(vector, spec.vectors), 4))
    whole = e.builder.icmp_signed("<=", e.add(vector, spec.vectors), limit)
    full = e.builder.and_(whole, e.builder.icmp_signed("!=", flag, ir.Constant(I32, 0)))
    with e.loop(0, table["outputs"], spec.rows) as row:
        bounds = segment_bounds(e, table, e.div(row, spec.rows))
        for group in range(0, spec.rows, spec.group):
            kept = _multiply(e, spec, table, bases=bases, bounds=bounds, group=group)
            first = e.add(row, group)
            with e.builder.if_else(full) as (then, otherwise):
                with then:
                    _finish(e, spec, table, kept, out=out, n=first, vector=vector)
                with otherwise:
                    _finish(e, spec, table, kept, out=out, n=first, vector=vector, limit=limit)


def _multiply(
    e: Emitter,
    spec: Spec,
    table: dict[str, Any],
    *,
    bases: list[Any],
    bounds: tuple[Any, Any],
    group: int,
) -> list[list[Variable]]:
    kind = e.floats if spec.dot == "fma" else e.ints
    kept = [[e.variable(kind) for _ in bases] for _ in range(spec.group)]
    for variable in (v for row in kept for v in row):
        variable.set(ir.Constant(kind, None))
    with e.loop(*bounds) as block:
        offsets = e.at(table["offsets"], e.mul(block, 4 * spec.steps))
        weights = e.at(table["values"], e.mul(block, 4 * spec.rows * spec.steps))
        for step in range(spec.steps):
            offset = e.builder.zext(e.load(I32, offsets, 4 * step), I64)
            xs = [e.load(kind, base, offset) for base in bases]
            for g in range(spec.group):
                w = int_at(e, weights, (step * spec.rows + group + g) * 4)
                w = e.builder.bitcast(w, kind)
                for variable, x in zip(kept[g], xs, strict=True):
                    variable.set(dot(e, spec.dot, variable.get(), x, w))
    return kept


def _finish(
    e: Emitter,
    spec: Spec,
    table: dict[str, Any],
    kept: list[list[Variable]],
    *,
    out: Any,
    n: Any,
    vector: Any,
    limit: Any = None,
) -> None:
    """Write outputs from `n` on; with `limit`, only lanes of use of vectors before it."""
    for g, sums in enumerate(kept):
        own = e.add(n, g)
        with e.builder.if_then(e.builder.icmp_signed("<", own, table["outputs"])):
            terms = _terms(e, spec, table, own)
            row = e.at(out, e.mul(own, table["output_bytes"]))
            for q, total in enumerate(sums):
                number = e.add(vector, q)
                result = finished(e, spec, table, total.get(), terms)
                target = e.load(I64, table["targets"], e.mul(number, 8))
                if limit is None:
                    e.store(result, row, target)
                    continue
                count = e.builder.sext(e.load(I32, table["counts"], e.mul(number, 4)), I64)
                there = e.builder.icmp_signed("<", number, limit)
                mask = e.below(e.builder.select(there, count, e.word(0)))
                order = e.load(e.ints, table["lanes"], e.mul(number, 4 * e.lanes))
                e.store_masked(_permuted(e, result, order), row, target, mask)


def _terms(e: Emitter, spec: Spec, table: dict[str, Any], n: Any) -> tuple[Any, Any, Any]:
    """Bias, scale and correction of output `n`, each in all lanes."""
    at = e.mul(n, 4)
    bias = e.splat(e.load(F32, table["bias"], at))
    if not spec.int8:
        return bias, None, None
    return bias, e.splat(e.load(F32, table["scale"], at)), int_at(e, table["correction"], at)


def _permuted(e: Emitter, values: Any, order: Any) -> Any:
    """Lanes of `values` in another order."""
    if e.lanes == 16:
        kind = "sf" if values.type == e.floats else "si"
        return e.call(f"llvm.x86.avx512.permvar.{kind}.512", values.type, values, order)
    name = "permps" if values.type == e.floats else "permd"
    return e.call(f"llvm.x86.avx2.{name}", values.type, values, order)
