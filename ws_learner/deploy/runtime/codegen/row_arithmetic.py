"""Arithmetic along a row of floats: reductions over the lanes, the exponential, layer norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, I64, PTR, Emitter
from ws_learner.deploy.runtime.codegen.sequence_tables import NORM_SLOTS

__all__ = ["across", "exponential", "norm_source"]

_EXP2 = (1.0, 0.6931472, 0.2402265, 0.05550411, 0.009618129, 0.0013333558, 0.0001540353, 1.5253e-05)
"""Taylor's coefficients of 2^f, ln(2)^n / n!: within 3e-8 for f between -1/2 and 1/2."""
_LOWEST = -126.0  # exponent of the smallest normal float


def across(e: Emitter, values: Any, both: Callable[[Any, Any], Any]) -> Any:
    """Reduce a vector; the result is in every lane."""
    step = e.lanes // 2
    while step:
        turned = e.shuffle(values, values, [(lane + step) % e.lanes for lane in range(e.lanes)])
        values = both(values, turned)
        step //= 2
    return values


def exponential(e: Emitter, x: Any) -> Any:
    """e^x for x up to 0, relative error below 3e-7; 0 below 2^-126, and for minus infinity."""
    b = e.builder
    power = b.fmul(x, e.constant(1.4426950408889634))
    inside = b.fcmp_unordered(">=", power, e.constant(_LOWEST))  # NaN stays
    power = b.select(inside, power, e.constant(_LOWEST))
    whole = e.call(f"llvm.rint.v{e.lanes}f32", e.floats, power)
    # The rest of x itself, by two parts of ln 2: that of `power` has lost the low bits.
    rest = e.fma(whole, e.constant(-0.693145751953125), x)
    rest = e.fma(whole, e.constant(-1.428606765330187e-06), rest)
    rest = b.fmul(b.select(inside, rest, e.constant(0.0)), e.constant(1.4426950408889634))
    total = e.constant(_EXP2[-1])
    for factor in reversed(_EXP2[:-1]):
        total = e.fma(total, rest, e.constant(factor))
    shift = ir.Constant(e.ints, [23] * e.lanes)
    bits = b.add(b.bitcast(total, e.ints), b.shl(b.fptosi(whole, e.ints), shift))
    found = b.bitcast(bits, e.floats)
    found = b.select(b.fcmp_unordered("uno", x, x), x, found)
    return b.select(inside, found, e.constant(0.0))


def norm_source(lanes: int) -> str:
    """A kernel: layer norm (Ba et al. 2016) of the sum of two inputs, token by token.

    Called with (T, width) as input, and as working memory the other term.
    """
    e = Emitter("kernel", arguments=[PTR] * 4 + [I64] * 2, lanes=lanes)
    numbers, x, y, other, begin, end = e.arguments
    of: dict[str, Any] = {n: e.load(I64, numbers, 8 * i) for i, n in enumerate(NORM_SLOTS)}
    weight, bias = (e.builder.inttoptr(of[name], PTR) for name in ("weight", "bias"))
    epsilon = e.splat(e.load(F32, numbers, 8 * NORM_SLOTS.index("epsilon")))
    size, b = e.mul(of["width"], 4), e.builder
    count = e.splat(b.sitofp(of["width"], F32))
    with e.loop(begin, end) as token:
        row = e.mul(token, size)
        a, r, out = e.at(x, row), e.at(other, row), e.at(y, row)
        total, spread = e.variable(e.floats), e.variable(e.floats)
        for variable in (total, spread):
            variable.set(ir.Constant(e.floats, None))
        with e.loop(0, size, 4 * lanes) as at:
            values = b.fadd(e.load(e.floats, a, at), e.load(e.floats, r, at))
            e.store(values, out, at)
            total.set(b.fadd(total.get(), values))
        mean = b.fdiv(across(e, total.get(), b.fadd), count)
        with e.loop(0, size, 4 * lanes) as at:
            away = b.fsub(e.load(e.floats, out, at), mean)
            spread.set(e.fma(away, away, spread.get()))
        variance = b.fdiv(across(e, spread.get(), b.fadd), count)
        root = e.call(f"llvm.sqrt.v{lanes}f32", e.floats, b.fadd(variance, epsilon))
        scale = b.fdiv(e.constant(1.0), root)
        with e.loop(0, size, 4 * lanes) as at:
            away = b.fmul(b.fsub(e.load(e.floats, out, at), mean), scale)
            factor, shift = e.load(e.floats, weight, at), e.load(e.floats, bias, at)
            e.store(e.fma(away, factor, shift), out, at)
    return e.finish()
