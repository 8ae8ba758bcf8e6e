"""Kernels between the products: embedding row, norms, SiLU, GELU, rounding, largest logit.

Each is a function of (table, state). The state begins with `CONTROL`; rows of activations are
padded to 64 numbers, and what is beyond a row's end is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from ws_learner.deploy.decode.opened import CONTROL, Opened
from ws_learner.deploy.decode.packing import CHUNK, HEAD, ROWS
from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, I8, I32, I64, Emitter
from ws_learner.deploy.runtime.codegen.row_arithmetic import across, exponential

__all__ = ["SLOTS", "token_source"]

SLOTS = {
    "embed": ("rows", "width", "bytes", "y", "y_bytes"),
    "norm": ("x", "x_bytes", "y", "y_bytes", "scale", "size", "width", "weight", "eps", "last"),
    "place": ("rows", "width", "y", "y_bytes"),
    "layer_norm": (
        *("x", "x_bytes", "y", "y_bytes", "scale", "size", "width", "weight", "bias", "eps"),
        "last",
    ),
    "round": ("x", "x_bytes", "y", "y_bytes", "scale", "width"),
    "silu": ("x", "x_bytes", "y", "y_bytes", "scale", "width"),
    "gelu": ("x", "x_bytes", "y", "y_bytes", "scale", "width"),
    "argmax": ("x", "size"),
}
"""The numbers of each kernel's table, in order."""


def token_source(name: str, lanes: int, *, bytes_: bool) -> str:
    """One of `SLOTS` in LLVM's language; with `bytes_` its output is rounded to bytes."""
    o = Opened(lanes, SLOTS[name])
    emit = {
        **{"embed": _embed, "place": _place, "norm": _norm, "layer_norm": _layer_norm},
        **{"round": _round, "silu": _silu, "gelu": _gelu, "argmax": _argmax},
    }
    emit[name](o, bytes_)
    return o.e.finish()


@contextmanager
def _vectors(o: Opened, width: Any) -> Iterator[Any]:
    """Places (bytes) of the vectors of a row of floats."""
    with o.e.loop(0, o.e.mul(width, 4), 4 * o.e.lanes) as at:
        yield at


def _embed(o: Opened, bytes_: bool) -> None:
    """Rows of a stream without masks: of floats, or of bytes."""
    e, b, item = o.e, o.e.builder, 1 if bytes_ else 4
    with e.loop(0, o.control("count")) as token:
        number = e.load(I64, o.state, e.add(8 * CONTROL.index("ids0"), e.mul(token, 8)))
        y = o.row("y", token)
        block = e.at(o.address("rows"), e.mul(e.div(number, ROWS), o.table["bytes"]))
        within = b.and_(number, e.word(ROWS - 1))
        scale = e.splat(e.load(F32, block, e.mul(within, 4)))
        source = e.at(block, e.add(HEAD, e.mul(within, CHUNK * item)))
        with e.loop(0, o.table["width"], CHUNK) as first:
            for i in range(0, CHUNK, e.lanes):
                at = e.add(e.mul(first, ROWS * item), i * item)
                if bytes_:
                    narrow = e.load(ir.VectorType(I8, e.lanes), source, at)
                    value = b.fmul(b.sitofp(b.sext(narrow, e.ints), e.floats), scale)
                else:
                    value = e.load(e.floats, source, at)
                e.store(value, y, e.mul(e.add(first, i), 4))


def _place(o: Opened, bytes_: bool) -> None:
    """Add the learned vectors of positions, (positions, width) floats."""
    e, b = o.e, o.e.builder
    size = e.mul(o.table["width"], 4)
    with e.loop(0, o.control("count")) as token:
        y = o.row("y", token)
        row = e.at(o.address("rows"), e.mul(e.add(o.control("position"), token), size))
        with _vectors(o, o.table["width"]) as at:
            e.store(b.fadd(e.load(e.floats, y, at), e.load(e.floats, row, at)), y, at)


def _first(o: Opened) -> Any:
    """The first token of a norm: with `last` it is the last one."""
    e, b = o.e, o.e.builder
    last = b.icmp_signed("!=", o.table["last"], e.word(0))
    return b.select(last, e.sub(o.control("count"), 1), e.word(0))


def _layer_norm(o: Opened, bytes_: bool) -> None:
    """Layer norm (Ba et al. 2016); with `last` of the last token only."""
    e, b = o.e, o.e.builder
    first, size = _first(o), e.splat(b.uitofp(o.table["size"], F32))
    zero = ir.Constant(e.floats, None)
    with e.loop(first, o.control("count")) as token:
        x, total, spread = o.row("x", token), e.variable(e.floats), e.variable(e.floats)
        total.set(zero)
        spread.set(zero)
        with _vectors(o, o.table["width"]) as at:
            total.set(b.fadd(total.get(), e.load(e.floats, x, at)))
        mean = b.fdiv(across(e, total.get(), b.fadd), size)
        with e.loop(0, o.table["width"], e.lanes) as i:
            away = b.fsub(e.load(e.floats, x, e.mul(i, 4)), mean)
            away = b.select(e.below(e.sub(o.table["size"], i)), away, zero)
            spread.set(e.fma(away, away, spread.get()))
        variance = b.fdiv(across(e, spread.get(), b.fadd), size)
        root = e.call(f"llvm.sqrt.v{e.lanes}f32", e.floats, b.fadd(variance, o.float("eps")))
        factor = b.fdiv(e.constant(1.0), root)

        def value_at(at: Any, x: Any = x, mean: Any = mean, factor: Any = factor) -> Any:
            away = b.fmul(b.fsub(e.load(e.floats, x, at), mean), factor)
            weight, bias = (e.load(e.floats, o.address(n), at) for n in ("weight", "bias"))
            return e.fma(away, weight, bias)

        _write(o, e.sub(token, first), value_at, own=x, bytes_=bytes_, in_place=False)


def _norm(o: Opened, bytes_: bool) -> None:
    """RMS norm (Zhang and Sennrich 2019); with `last` of the last token only."""
    e, b = o.e, o.e.builder
    width, first = o.table["width"], _first(o)
    size = e.splat(b.uitofp(o.table["size"], F32))
    with e.loop(first, o.control("count")) as token:
        x, total = o.row("x", token), e.variable(e.floats)
        total.set(ir.Constant(e.floats, None))
        with _vectors(o, width) as at:
            value = e.load(e.floats, x, at)
            total.set(e.fma(value, value, total.get()))
        mean = b.fdiv(across(e, total.get(), b.fadd), size)
        root = e.call(f"llvm.sqrt.v{e.lanes}f32", e.floats, b.fadd(mean, o.float("eps")))
        factor = b.fdiv(e.constant(1.0), root)

        def value_at(at: Any, x: Any = x, factor: Any = factor) -> Any:
            scaled = b.fmul(e.load(e.floats, x, at), factor)
            return b.fmul(scaled, e.load(e.floats, o.address("weight"), at))

        _write(o, e.sub(token, first), value_at, own=x, bytes_=bytes_, in_place=False)


def _round(o: Opened, bytes_: bool) -> None:
    """Floats to bytes."""
    assert bytes_
    e = o.e
    with e.loop(0, o.control("count")) as token:
        x = o.row("x", token)
        _write(o, token, lambda at, x=x: e.load(e.floats, x, at), own=x, bytes_=True, in_place=True)


def _silu(o: Opened, bytes_: bool) -> None:
    """silu(gate) * up; `x` holds `width` gates, then as many of up."""
    e, b = o.e, o.e.builder
    with e.loop(0, o.control("count")) as token:
        x = o.row("x", token)
        up = e.at(x, e.mul(o.table["width"], 4))

        def value_at(at: Any, x: Any = x, up: Any = up) -> Any:
            gate = e.load(e.floats, x, at)
            return b.fmul(b.fmul(gate, _sigmoid(e, gate)), e.load(e.floats, up, at))

        _write(o, token, value_at, own=x, bytes_=bytes_, in_place=False)


def _gelu(o: Opened, bytes_: bool) -> None:
    """GELU with tanh (Hendrycks and Gimpel 2016): x (1 + tanh(u)) / 2 is x sigmoid(2 u)."""
    e, b = o.e, o.e.builder
    with e.loop(0, o.control("count")) as token:
        x = o.row("x", token)

        def value_at(at: Any, x: Any = x) -> Any:
            value = e.load(e.floats, x, at)
            inner = e.fma(b.fmul(value, value), e.constant(0.044715), e.constant(1.0))
            twice = b.fmul(b.fmul(value, e.constant(2 * (2 / math.pi) ** 0.5)), inner)
            return b.fmul(value, _sigmoid(e, twice))

        _write(o, token, value_at, own=x, bytes_=bytes_, in_place=False)


def _sigmoid(e: Emitter, x: Any) -> Any:
    """1 / (1 + exp(-x)); exp(-|x|) has no overflow, and below 0 it is the numerator, too."""
    b, zero = e.builder, ir.Constant(e.floats, None)
    below = b.fcmp_ordered("<", x, zero)
    power = exponential(e, b.select(below, x, b.fneg(x)))
    top = b.select(below, power, e.constant(1.0))
    return b.fdiv(top, b.fadd(e.constant(1.0), power))


def _write(o: Opened, token: Any, value_at: Any, *, own: Any, bytes_: bool, in_place: bool) -> None:
    """Values of a row to `y`, as floats or as bytes with a scale."""
    e, b, width = o.e, o.e.builder, o.table["width"]
    y = o.row("y", token)
    if not bytes_:
        with _vectors(o, width) as at:
            e.store(value_at(at), y, at)
        return
    # The floats are kept where y's bytes end, for the second pass.
    kept = own if in_place else e.at(y, width)
    most = e.variable(e.floats)
    most.set(ir.Constant(e.floats, None))
    with _vectors(o, width) as at:
        value = value_at(at)
        if not in_place:
            e.store(value, kept, at)
        size = e.call(f"llvm.fabs.v{e.lanes}f32", e.floats, value)
        most.set(e.largest(size, most.get()))
    peak = across(e, most.get(), e.largest)
    peak = b.select(b.fcmp_ordered(">", peak, ir.Constant(e.floats, None)), peak, e.constant(1.0))
    inverse = b.fdiv(e.constant(127.0), peak)
    scale = b.fmul(peak, e.constant(1 / 127))
    one = b.extract_element(scale, ir.Constant(I32, 0))
    e.store(one, e.at(o.state, e.add(o.table["scale"], e.mul(token, 4))))
    name = f"llvm.rint.v{e.lanes}f32"
    with e.loop(0, width, e.lanes) as i:
        whole = e.call(name, e.floats, b.fmul(e.load(e.floats, kept, e.mul(i, 4)), inverse))
        shifted = b.add(b.fptosi(whole, e.ints), ir.Constant(e.ints, [128] * e.lanes))
        e.store(b.trunc(shifted, ir.VectorType(I8, e.lanes)), y, i)


def _argmax(o: Opened, bytes_: bool) -> None:
    """The first of the largest of `size` floats, to the state's `next`."""
    assert not bytes_
    e, b = o.e, o.e.builder
    x, best, place = e.at(o.state, o.table["x"]), e.variable(F32), e.variable(I64)
    many, where = e.variable(e.floats), e.variable(e.ints)
    low = e.constant(float("-inf"))
    many.set(low)
    where.set(ir.Constant(e.ints, None))
    lanes = ir.Constant(e.ints, list(range(e.lanes)))
    with e.loop(0, o.table["size"], e.lanes) as i:
        inside = e.below(e.sub(o.table["size"], i))
        value = b.select(inside, e.load(e.floats, x, e.mul(i, 4)), low)
        more = b.fcmp_ordered(">", value, many.get())
        own = b.add(lanes, e.splat(b.trunc(i, I32)))
        many.set(b.select(more, value, many.get()))
        where.set(b.select(more, own, where.get()))
    best.set(ir.Constant(F32, float("-inf")))
    place.set(e.word(0))
    for lane in range(e.lanes):
        value = b.extract_element(many.get(), ir.Constant(I32, lane))
        own = b.zext(b.extract_element(where.get(), ir.Constant(I32, lane)), I64)
        same = b.and_(b.fcmp_ordered("==", value, best.get()), b.icmp_signed("<", own, place.get()))
        better = b.or_(b.fcmp_ordered(">", value, best.get()), same)
        best.set(b.select(better, value, best.get()))
        place.set(b.select(better, own, place.get()))
    e.store(place.get(), o.state, 8 * CONTROL.index("next"))
