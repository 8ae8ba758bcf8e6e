"""Vector arithmetic the kernels share: dot products, quantisation, activations."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.runtime.emitter import F32, I8, I16, I32, Emitter

__all__ = ["activate", "dot", "float_at", "int_at", "quantise", "squeeze"]

_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_EXP2 = (1.0, 0.6931471806, 0.2402265070, 0.0555041087, 0.0096181291, 0.0013333558, 0.000154035)


def dot(e: Emitter, kind: str, accumulator: Any, x: Any, w: Any) -> Any:
    """Accumulator plus products of 32-bit lanes: a float each, four bytes or two halves."""
    if kind == "fma":
        return e.fma(w, x, accumulator)
    b, width = e.builder, 32 * e.lanes
    if kind == "vnni":
        bytes_ = ir.VectorType(I8, 4 * e.lanes)
        name = f"llvm.x86.avx512.vpdpbusd.{width}"
        return e.call(name, e.ints, accumulator, b.bitcast(x, bytes_), b.bitcast(w, bytes_))
    halves = ir.VectorType(I16, 2 * e.lanes)
    name = "llvm.x86.avx2.pmadd.wd" if width == 256 else "llvm.x86.avx512.pmaddw.d.512"
    return b.add(accumulator, e.call(name, e.ints, b.bitcast(x, halves), b.bitcast(w, halves)))


def quantise(e: Emitter, values: Any, inverse: Any, zero: Any, *, least: Any = None) -> Any:
    """Round(values * inverse + zero) to the nearest even, within 0 and 255, as i32; NaN is 0.

    `least`, if given, takes the place of 0.
    """
    scaled = e.fma(values, inverse, zero)
    bounded = e.largest(scaled, e.constant(0.0) if least is None else least)
    whole = e.call(f"llvm.lrint.v{e.lanes}i32.v{e.lanes}f32", e.ints, bounded)
    # What is too large for i32 becomes 0x80000000 on x86, the largest of all without a sign.
    most = ir.Constant(e.ints, [255] * e.lanes)
    return e.builder.select(e.builder.icmp_unsigned("<", whole, most), whole, most)


def squeeze(e: Emitter, parts: list[Any]) -> Any:
    """Cut 4 (or 2) vectors of i32 to bytes (or halves), laid end to end as i32 lanes."""
    narrow = ir.VectorType(I8 if len(parts) == 4 else I16, e.lanes)
    return e.builder.bitcast(e.join([e.builder.trunc(p, narrow) for p in parts]), e.ints)


def activate(e: Emitter, values: Any, name: str) -> Any:
    """ReLU, GELU with the error function, or nothing."""
    if name == "relu":
        return e.largest(values, e.constant(0.0))
    if name == "gelu":
        half = e.builder.fmul(values, e.constant(0.5))
        return e.fma(half, _erf(e, e.builder.fmul(values, e.constant(0.5**0.5))), half)
    return values


def _erf(e: Emitter, x: Any) -> Any:
    """Abramowitz and Stegun 7.1.26: within 1.5e-7."""
    b = e.builder
    sign = b.and_(b.bitcast(x, e.ints), ir.Constant(e.ints, [-(1 << 31)] * e.lanes))
    size = b.bitcast(b.xor(b.bitcast(x, e.ints), sign), e.floats)
    t = b.fdiv(e.constant(1.0), e.fma(size, e.constant(0.3275911), e.constant(1.0)))
    total = e.constant(_ERF[-1])
    for factor in reversed(_ERF[:-1]):
        total = e.fma(total, t, e.constant(factor))
    tail = b.fmul(b.fmul(total, t), _exp(e, b.fneg(b.fmul(size, size))))
    result = b.fsub(e.constant(1.0), tail)
    return b.bitcast(b.or_(b.bitcast(result, e.ints), sign), e.floats)


def _exp(e: Emitter, x: Any) -> Any:
    """2^n times a polynomial, for x at most 0; 0 below the smallest normal number."""
    b = e.builder
    scaled = e.largest(b.fmul(x, e.constant(1.4426950409)), e.constant(-126.0))
    whole = e.call(f"llvm.floor.v{e.lanes}f32", e.floats, scaled)
    part = b.fsub(scaled, whole)
    total = e.constant(_EXP2[-1])
    for factor in reversed(_EXP2[:-1]):
        total = e.fma(total, part, e.constant(factor))
    exponent = b.add(b.fptosi(whole, e.ints), ir.Constant(e.ints, [127] * e.lanes))
    power = b.shl(exponent, ir.Constant(e.ints, [23] * e.lanes))
    return b.fmul(total, b.bitcast(power, e.floats))


def float_at(e: Emitter, base: Any, number: int) -> Any:
    """The float at a place of an array, in every lane."""
    return e.splat(e.load(F32, base, 4 * number))


def int_at(e: Emitter, base: Any, offset: Any) -> Any:
    """The 32 bits at an address, in every lane."""
    return e.splat(e.load(I32, base, offset))
