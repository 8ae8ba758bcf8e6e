"""The choice of a token by its probability, as a kernel; `draw_token` is its definition.

A threshold for the largest k, or for a share of the probability, is found by halving the range of a
float's bits: each step is one pass over the logits, and no sorting is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from ws_learner.deploy.decode.opened import Opened
from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, I32, I64, Emitter
from ws_learner.deploy.runtime.codegen.row_arithmetic import across, exponential

__all__ = ["DRAW_SLOTS", "draw_source"]

DRAW_SLOTS = ("x", "weights", "size", "temperature", "top_k", "top_p", "share", "out")
"""Places of logits and of as many floats to work with, their number; temperature (float32), most
tokens (`size` for all), share of probability, and the draw (float64 both); where the token goes."""
_F64 = ir.DoubleType()


def draw_source(lanes: int) -> str:
    """The kernel of (table, state) in LLVM's language."""
    o = Opened(lanes, DRAW_SLOTS)
    e, b = o.e, o.e.builder
    x, weights = (e.at(o.state, o.table[name]) for name in ("x", "weights"))
    some = b.icmp_signed("<", o.table["top_k"], o.table["size"])
    cut = _halved(e, -(1 << 31), _fewer_above(o, x), when=some)
    peak = e.splat(e.load(F32, x, e.mul(o.control("next"), 4)))
    temperature, low = o.float("temperature"), e.splat(cut)
    with _vectors(o) as (at, inside):
        logit = e.load(e.floats, x, at)
        left = b.and_(inside, b.icmp_signed(">=", _key(e, logit), low))
        power = exponential(e, b.fdiv(b.fsub(logit, peak), temperature))
        e.store(b.select(left, power, e.constant(0.0)), weights, at)
    total = _sum_above(o, weights, e.splat(ir.Constant(I32, -1)))
    wanted = b.fmul(_double(o, "top_p"), total)

    def small(middle: Any) -> Any:
        return b.fcmp_ordered("<", _sum_above(o, weights, middle), wanted)

    less = b.fcmp_ordered("<", _double(o, "top_p"), ir.Constant(_F64, 1.0))
    level = _halved(e, 0, small, when=less)
    kept = _sum_above(o, weights, e.splat(b.sub(level, ir.Constant(I32, 1))))
    e.store(_place(o, weights, level, b.fmul(_double(o, "share"), kept)), o.address("out"))
    return e.finish()


@contextmanager
def _vectors(o: Opened) -> Iterator[tuple[Any, Any]]:
    """The offset of each vector of logits, and a mask of those that there are."""
    with o.e.loop(0, o.table["size"], o.e.lanes) as i:
        yield o.e.mul(i, 4), o.e.below(o.e.sub(o.table["size"], i))


def _double(o: Opened, name: str) -> Any:
    return o.e.builder.bitcast(o.table[name], _F64)


def _key(e: Emitter, values: Any) -> Any:
    """Integers in the order of floats; 0 and -0 are the same."""
    b = e.builder
    bits = b.bitcast(b.fadd(values, e.constant(0.0)), e.ints)
    sign = b.ashr(bits, ir.Constant(e.ints, [31] * e.lanes))
    return b.xor(bits, b.and_(sign, ir.Constant(e.ints, [0x7FFFFFFF] * e.lanes)))


def _halved(e: Emitter, low: int, small: Callable[[Any], Any], *, when: Any) -> Any:
    """The least 32-bit number from `low` on for which `small` (of a vector of it) holds.

    `low` itself unless `when` is true.
    """
    b, first, last = e.builder, e.variable(I64), e.variable(I64)
    first.set(e.word(low))
    last.set(b.select(when, e.word((1 << 31) - 1), e.word(low)))
    with e.loop(0, b.select(when, e.word(32), e.word(0))):
        middle = b.ashr(e.add(first.get(), last.get()), ir.Constant(I64, 1))
        enough = small(e.splat(b.trunc(middle, I32)))
        last.set(b.select(enough, middle, last.get()))
        first.set(b.select(enough, first.get(), e.least(e.add(middle, 1), last.get())))
    return b.trunc(last.get(), I32)


def _fewer_above(o: Opened, x: Any) -> Callable[[Any], Any]:
    """Whether fewer than `top_k` logits are above a threshold."""
    e, b = o.e, o.e.builder

    def small(threshold: Any) -> Any:
        count = e.variable(e.ints)
        count.set(ir.Constant(e.ints, None))
        with _vectors(o) as (at, inside):
            above = b.icmp_signed(">", _key(e, e.load(e.floats, x, at)), threshold)
            count.set(b.sub(count.get(), b.sext(b.and_(above, inside), e.ints)))
        found = b.extract_element(across(e, count.get(), b.add), ir.Constant(I32, 0))
        return b.icmp_signed("<", b.zext(found, I64), o.table["top_k"])

    return small


def _sum_above(o: Opened, weights: Any, threshold: Any) -> Any:
    """The sum (float64) of the weights whose bits are above a threshold."""
    e, b, half = o.e, o.e.builder, o.e.lanes // 2
    kind = ir.VectorType(_F64, half)
    sums = [e.variable(kind) for _ in range(2)]
    for variable in sums:
        variable.set(ir.Constant(kind, None))
    with _vectors(o) as (at, inside):
        value = e.load(e.floats, weights, at)
        above = b.and_(inside, b.icmp_signed(">", b.bitcast(value, e.ints), threshold))
        value = b.select(above, value, e.constant(0.0))
        for part, variable in enumerate(sums):
            lanes = e.shuffle(value, value, range(part * half, (part + 1) * half))
            variable.set(b.fadd(variable.get(), b.fpext(lanes, kind)))
    whole = b.fadd(sums[0].get(), sums[1].get())
    total = b.extract_element(whole, ir.Constant(I32, 0))
    for lane in range(1, half):
        total = b.fadd(total, b.extract_element(whole, ir.Constant(I32, lane)))
    return total


def _place(o: Opened, weights: Any, level: Any, target: Any) -> Any:
    """The first token whose weight, with all before it, is more than the target.

    The last token that is left if rounding leaves none.
    """
    e, b = o.e, o.e.builder
    total, found, last = e.variable(_F64), e.variable(I64), e.variable(I64)
    total.set(ir.Constant(_F64, 0.0))
    found.set(e.word(0))
    last.set(e.word(0))
    with e.loop(0, o.table["size"]) as i:
        value = e.load(F32, weights, e.mul(i, 4))
        kept = b.icmp_signed(">=", b.bitcast(value, I32), level)
        kept = b.and_(kept, b.fcmp_ordered(">", value, ir.Constant(F32, 0.0)))
        more = b.select(kept, b.fpext(value, _F64), ir.Constant(_F64, 0.0))
        total.set(b.fadd(total.get(), more))
        last.set(b.select(kept, i, last.get()))
        before = b.fcmp_ordered("<=", total.get(), target)
        found.set(b.select(before, e.add(i, 1), found.get()))
    return e.least(found.get(), last.get())
