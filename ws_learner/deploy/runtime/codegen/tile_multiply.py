"""Second part of a kernel: sparse blocks times the packed tile, accumulated in registers.

Weights lie in segments: chunk of outputs by chunk, in it panel of inputs by panel, in it one row
of blocks after the other. A panel of the tile fits into the first cache; sums of a chunk wait in
`sums`, rows of T lanes, between panels.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.arithmetic import dot, int_at
from ws_learner.deploy.runtime.codegen.llvm_emitter import I8, I16, I32, I64, Emitter
from ws_learner.deploy.runtime.codegen.spec import Spec

__all__ = ["configure_tiles", "multiply_segment", "segment_bounds", "use_tile"]

_DEEP = 16  # blocks in an AMX tile of weights


def segment_bounds(e: Emitter, table: dict[str, Any], segment: Any) -> tuple[Any, Any]:
    """First block of a segment, and of the next."""
    pointers = table["pointers"]
    ends = [e.builder.zext(e.load(I32, pointers, e.mul(e.add(segment, i), 4)), I64) for i in (0, 1)]
    return ends[0], ends[1]


def multiply_segment(
    e: Emitter,
    spec: Spec,
    table: dict[str, Any],
    *,
    segment: Any,
    panel: Any,
    sums: Any,
    fresh: Any,
) -> None:
    """Add one segment to the `rows` rows at `sums`, or set them if `fresh` (i1)."""
    if spec.dot == "amx":
        _multiply_tiles(e, spec, table, segment=segment, panel=panel, sums=sums)
        return
    begin, end = segment_bounds(e, table, segment)
    for group in range(0, spec.rows, spec.group):
        _multiply_group(
            e, spec, table, begin=begin, end=end, panel=panel, sums=sums, fresh=fresh, group=group
        )


def _multiply_group(
    e: Emitter,
    spec: Spec,
    table: dict[str, Any],
    *,
    begin: Any,
    end: Any,
    panel: Any,
    sums: Any,
    fresh: Any,
    group: int,
) -> None:
    kind = e.floats if spec.dot == "fma" else e.ints
    width, zero = spec.vectors * e.lanes * 4, ir.Constant(kind, None)
    places, kept = [], []
    for g in range(spec.group):
        for q in range(spec.vectors):
            place = (group + g) * width + q * e.lanes * 4
            variable = e.variable(kind)
            variable.set(e.builder.select(fresh, zero, e.load(kind, sums, place)))
            places.append(place)
            kept.append(variable)
    with e.loop(begin, end) as block:
        index = e.builder.zext(e.load(I16, table["indices"], e.mul(block, 2)), I64)
        row = e.at(panel, e.mul(index, width * spec.steps))
        weights = e.at(table["values"], e.mul(block, spec.rows * spec.steps * 4))
        for step in range(spec.steps):
            xs = [e.load(kind, row, step * width + q * e.lanes * 4) for q in range(spec.vectors)]
            for g in range(spec.group):
                w = int_at(e, weights, (step * spec.rows + group + g) * 4)
                w = e.builder.bitcast(w, kind)
                for q, x in enumerate(xs):
                    variable = kept[g * spec.vectors + q]
                    variable.set(dot(e, spec.dot, variable.get(), x, w))
    for place, variable in zip(places, kept, strict=True):
        e.store(variable.get(), sums, place)


# AMX: registers 0 to 3 hold sums, 4 the weights, 5 to 7 tokens.


def configure_tiles(e: Emitter, place: Any) -> None:
    """Set all eight tile registers to 16 rows of 64 bytes."""
    for offset in range(0, 64, 8):
        e.store(ir.Constant(I64, 0), place, offset)
    e.store(ir.Constant(I8, 1), place, 0)
    for register in range(8):
        e.store(ir.Constant(I16, 64), place, 16 + 2 * register)
        e.store(ir.Constant(I8, _DEEP), place, 48 + register)
    e.call("llvm.x86.ldtilecfg", ir.VoidType(), place)


def use_tile(e: Emitter, name: str, *arguments: Any) -> None:
    """Emit one tile instruction; registers are Python ints."""
    constants = [ir.Constant(I8, a) if isinstance(a, int) else a for a in arguments]
    e.call(f"llvm.x86.{name}", ir.VoidType(), *constants)


def _multiply_tiles(
    e: Emitter, spec: Spec, table: dict[str, Any], *, segment: Any, panel: Any, sums: Any
) -> None:
    """Blocks of 16 x 4: the rows they read are gathered, then sixteen at a time multiplied.

    All rows of a segment first: a tile load has to wait for stores that are still under way.
    """
    width, deep = spec.vectors * 64, _DEEP * 64
    begin, end = segment_bounds(e, table, segment)
    with e.loop(begin, end, _DEEP) as block:
        buffer = e.at(table["gather"], e.mul(e.sub(block, begin), width))
        for j in range(_DEEP):
            index = e.load(I16, table["indices"], e.mul(e.add(block, j), 2))
            row = e.at(panel, e.mul(e.builder.zext(index, I64), width))
            for q in range(spec.vectors):
                e.store(e.load(e.ints, row, q * 64), buffer, q * deep + j * 64)
    for q in range(spec.vectors):
        use_tile(e, "tilezero", q)
    with e.loop(begin, end, _DEEP) as block:
        buffer = e.at(table["gather"], e.mul(e.sub(block, begin), width))
        weights = e.at(table["values"], e.mul(block, 64))
        use_tile(e, "tileloadd64", 4, weights, ir.Constant(I64, 64))
        for q in range(spec.vectors):
            register = 5 + q % 3
            use_tile(e, "tileloadd64", register, e.at(buffer, q * deep), ir.Constant(I64, 64))
            use_tile(e, "tdpbsud", q, 4, register)
    for q in range(spec.vectors):
        use_tile(e, "tilestored64", q, e.at(sums, q * 64), ir.Constant(I64, width))
