"""Matrix times one to four vectors, for any mask: the packed weights are read once, in order.

Four rows at a time; of each, 64 weights are expanded by their mask and multiplied. Bytes are
multiplied exactly, in integers; the 128 that an activation's byte is too large by is taken off with
the head's correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from ws_learner.deploy.decode.expand import RowReader
from ws_learner.deploy.decode.isas import DECODE_ISAS
from ws_learner.deploy.decode.packing import CHUNK, HEAD, ROWS, Format
from ws_learner.deploy.runtime.codegen.arithmetic import dot
from ws_learner.deploy.runtime.codegen.cpu import Isa
from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, I8, I16, I32, I64, PTR, Emitter

__all__ = ["MATVEC_SLOTS", "MatvecSpec", "matvec_source"]

MATVEC_SLOTS = (
    *("stream", "levels", "byte_masks", "lane_places", "blocks", "chunks"),
    *("x", "x_bytes", "x_scale", "y", "y_bytes", "added"),
)
"""Addresses, numbers, and places in the state: inputs of a token and its scale, its outputs, bytes
from one token to the next, and whether outputs are added to what is there."""

_AHEAD = 1024  # bytes that are asked for before they are read


@dataclass(frozen=True, kw_only=True)
class MatvecSpec:
    """One generated function.

    Attributes:
        isa: A key of `DECODE_ISAS`.
        format: Of the weights.
        tokens: Vectors that are multiplied at once.
    """

    isa: str
    format: Format
    tokens: int


def matvec_source(spec: MatvecSpec) -> str:
    """The kernel of (table, state) in LLVM's language."""
    isa, form = DECODE_ISAS[spec.isa], spec.format
    e = Emitter("kernel", arguments=[PTR, PTR], lanes=isa.lanes)
    numbers, state = e.arguments
    table: dict[str, Any] = {n: e.load(I64, numbers, 8 * i) for i, n in enumerate(MATVEC_SLOTS)}
    for name in ("stream", "levels", "byte_masks", "lane_places"):
        table[name] = e.builder.inttoptr(table[name], PTR)
    reader = RowReader(e, form, isa, table)
    place = e.variable(PTR)
    place.set(table["stream"])
    masks = e.mul(table["chunks"], 8 * ROWS if form.masked else 0)
    scales = e.mul(table["chunks"], 2 * ROWS * (CHUNK // form.group) if form.group else 0)
    with e.loop(0, table["blocks"]) as block:
        head = place.get()
        where = {"masks": e.at(head, HEAD), "scales": e.at(head, e.add(HEAD, masks))}
        place.set(e.at(head, e.add(HEAD, masks, scales)))
        sums = _Sums(e, form, spec.tokens)
        with e.loop(0, table["chunks"]) as chunk:
            _chunk(e, spec, isa, reader, table, state, sums, where, place, chunk)
        for token in range(spec.tokens):
            _finish(e, form, table, state, sums.of(token), head, block, token)
    return e.finish()


class _Sums:
    """Accumulators of four rows for each token."""

    def __init__(self, e: Emitter, form: Format, tokens: int) -> None:
        self.kind = e.ints if form.values == "i8" else e.floats
        self._kept = [[e.variable(self.kind) for _ in range(ROWS)] for _ in range(tokens)]
        for variable in (v for row in self._kept for v in row):
            variable.set(ir.Constant(self.kind, None))

    def of(self, token: int) -> list[Any]:
        return self._kept[token]


def _chunk(
    e: Emitter,
    spec: MatvecSpec,
    isa: Isa,
    reader: RowReader,
    table: dict[str, Any],
    state: Any,
    sums: _Sums,
    where: dict[str, Any],
    place: Any,
    chunk: Any,
) -> None:
    form = spec.format
    inputs = [_inputs(e, spec, isa, table, state, t, chunk) for t in range(spec.tokens)]
    e.call("llvm.prefetch.p0", ir.VoidType(), e.at(place.get(), _AHEAD), *_read_soon())
    for row in range(ROWS):
        mask = None
        if form.masked:
            mask = e.load(I64, where["masks"], e.add(e.mul(chunk, 8 * ROWS), 8 * row))
        weights = reader.read(place, mask)
        scales = _group_scales(e, isa, form, where["scales"], chunk, row) if form.group else None
        for token, xs in enumerate(inputs):
            kept = sums.of(token)[row]
            if form.values == "f32":
                for w, x in zip(weights, xs, strict=True):
                    kept.set(e.fma(w, x, kept.get()))
            elif scales is None:
                kept.set(_products(e, isa, kept.get(), xs, weights))
            else:
                kept.set(_scaled(e, isa, kept.get(), xs, weights, scales))


def _read_soon() -> tuple[Any, Any, Any]:
    return ir.Constant(I32, 0), ir.Constant(I32, 3), ir.Constant(I32, 1)


def _inputs(
    e: Emitter, spec: MatvecSpec, isa: Isa, table: dict[str, Any], state: Any, t: int, chunk: Any
) -> list[Any]:
    floats = spec.format.values == "f32"
    base = e.at(state, e.add(table["x"], e.mul(table["x_bytes"], t)))
    base = e.at(base, e.mul(chunk, CHUNK * (4 if floats else 1)))
    kind = e.floats if floats else ir.VectorType(I8, 4 * e.lanes)
    step = 4 * e.lanes
    count = 4 * CHUNK // step if floats else CHUNK // step
    return [e.load(kind, base, step * i) for i in range(count)]


def _products(e: Emitter, isa: Isa, total: Any, xs: list[Any], ws: list[Any]) -> Any:
    """`total` plus products of bytes without a sign and bytes with one, in 32-bit lanes."""
    for x, w in zip(xs, ws, strict=True):
        if isa.dot == "vnni":
            total = dot(e, "vnni", total, x, w)
            continue
        for half in (0, 1):
            total = _half_products(e, isa, total, x, w, half)
    return total


def _half_products(e: Emitter, isa: Isa, total: Any, x: Any, w: Any, half: int) -> Any:
    """The same for one half of two vectors of bytes, widened to 16 bits."""
    count, wide = 2 * e.lanes, ir.VectorType(I16, 2 * e.lanes)
    places = range(half * count, (half + 1) * count)
    narrow = [e.shuffle(v, v, places) for v in (x, w)]
    pair = e.builder.zext(narrow[0], wide), e.builder.sext(narrow[1], wide)
    if isa.dot == "madd":
        return dot(e, "madd", total, *pair)
    both = ir.VectorType(I32, count)
    products = e.builder.mul(e.builder.zext(pair[0], both), e.builder.sext(pair[1], both))
    even, odd = (e.shuffle(products, products, range(i, count, 2)) for i in (0, 1))
    return e.builder.add(total, e.builder.add(even, odd))


def _scaled(
    e: Emitter, isa: Isa, total: Any, xs: list[Any], ws: list[Any], scales: list[Any]
) -> Any:
    zero = ir.Constant(e.ints, None)
    if len(scales) == 1:
        whole = _products(e, isa, zero, xs, ws)
        return e.fma(e.builder.sitofp(whole, e.floats), scales[0], total)
    for i, scale in enumerate(scales):
        if len(ws) == 1:  # 64 bytes in a vector: their halves are multiplied one by one
            whole = _half_products(e, isa, zero, xs[0], ws[0], i)
        else:
            whole = _products(e, isa, zero, [xs[i]], [ws[i]])
        total = e.fma(e.builder.sitofp(whole, e.floats), scale, total)
    return total


def _group_scales(e: Emitter, isa: Isa, form: Format, base: Any, chunk: Any, row: int) -> list[Any]:
    """Scales of a row's 64 weights: one vector for all of them, or one for each vector of bytes."""
    each, b = CHUNK // form.group, e.builder
    at = e.at(base, e.add(e.mul(chunk, 2 * each * ROWS), 2 * each * row))
    if each == 1 or e.lanes == 8 or isa.dot == "madd":
        found = [e.splat(e.load(I16, at, 2 * i), 2 * e.lanes) for i in range(each)]
        return [b.bitcast(scale, e.floats) for scale in found]
    both = e.splat(e.load(I32, at))
    halves = b.bitcast(both, ir.VectorType(I16, 2 * e.lanes))
    picked = e.shuffle(halves, halves, [0] * e.lanes + [1] * e.lanes)
    return [b.bitcast(picked, e.floats)]


def _finish(
    e: Emitter,
    form: Format,
    table: dict[str, Any],
    state: Any,
    kept: list[Any],
    head: Any,
    block: Any,
    token: int,
) -> None:
    b, four = e.builder, ir.VectorType(F32, ROWS)
    total = _four_sums(e, [v.get() for v in kept])
    at = e.add(table["y"], e.mul(table["y_bytes"], token), e.mul(block, 4 * ROWS))
    y = e.at(state, at)
    if form.values == "i8":
        total = b.add(total, e.load(ir.VectorType(I32, ROWS), head, 16))
        total = b.fmul(b.sitofp(total, four), e.load(four, head))
    elif form.values == "i4":
        total = b.fadd(total, e.load(four, head, 16))
    if form.values != "f32":
        scale = e.load(F32, e.at(state, e.add(table["x_scale"], 4 * token)))
        total = b.fmul(total, e.splat(scale, ROWS))
    total = b.fadd(total, e.load(four, head, 32))
    added = b.icmp_signed("!=", table["added"], e.word(0))
    there = b.select(added, e.load(four, y), ir.Constant(four, None))
    e.store(b.fadd(total, there), y)


def _four_sums(e: Emitter, rows: list[Any]) -> Any:
    """The sums of four vectors' lanes as one vector of four."""
    plus = e.builder.fadd if rows[0].type == e.floats else e.builder.add
    lanes = e.lanes

    def mixed(a: Any, c: Any, order: tuple[int, int, int, int]) -> Any:
        """The same order within each four lanes; 4 to 7 are the second vector's."""
        picks = [
            4 * (i // 4) + order[i % 4] % 4 + lanes * (order[i % 4] // 4) for i in range(lanes)
        ]
        return e.shuffle(a, c, picks)

    one, two, three, four = rows
    left = plus(mixed(one, two, (0, 4, 1, 5)), mixed(one, two, (2, 6, 3, 7)))
    right = plus(mixed(three, four, (0, 4, 1, 5)), mixed(three, four, (2, 6, 3, 7)))
    total = plus(mixed(left, right, (0, 1, 4, 5)), mixed(left, right, (2, 3, 6, 7)))
    while lanes > 4:
        lanes //= 2
        low = e.shuffle(total, total, range(lanes))
        total = plus(low, e.shuffle(total, total, range(lanes, 2 * lanes)))
    return total
