"""Vector arithmetic the kernels share: dot products, quantisation, activations."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, I8, I16, I32, Emitter

__all__ = ["activate", "dot", "float_at", "int_at", "quantise", "squeeze"]

_REACH = 3.8
_ERF = (  # interpolates erf(z) / z at Chebyshev's points of z^2, up to _REACH^2 (= 1); see the test
    *(0.37210767, -0.18564138, 0.13774040, -0.11118011, 0.09081588, -0.07256522, 0.05517498),
    *(-0.03874900, 0.02630481, -0.01868471, 0.01059230, -0.00299138, 0.00184634, -0.00279885),
    0.00118623,
)


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
        zero = e.constant(0.0)  # what is not a number stays, as in PyTorch
        return e.builder.select(e.builder.fcmp_unordered(">", values, zero), values, zero)
    if name == "gelu":
        half = e.builder.fmul(values, e.constant(0.5))
        return e.fma(half, _erf(e, e.builder.fmul(values, e.constant(0.5**0.5))), half)
    return values


def _erf(e: Emitter, x: Any) -> Any:
    """Within 3e-7 of the error function, exactly -1 and 1 from 3.8 on.

    No division and no exponential: they took twice as long as all the rest of a layer's last pass,
    and large inputs met numbers below the normal ones, which cost a processor 100 cycles each.
    """
    near = e.smallest(e.largest(x, e.constant(-_REACH)), e.constant(_REACH))
    square = e.builder.fmul(near, near)
    place = e.fma(square, e.constant(2 / _REACH**2), e.constant(-1.0))
    total = e.constant(_ERF[-1])
    for factor in reversed(_ERF[:-1]):
        total = e.fma(total, place, e.constant(factor))
    result = e.builder.fmul(total, near)
    return e.smallest(e.largest(result, e.constant(-1.0)), e.constant(1.0))


def float_at(e: Emitter, base: Any, number: int) -> Any:
    """The float at a place of an array, in every lane."""
    return e.splat(e.load(F32, base, 4 * number))


def int_at(e: Emitter, base: Any, offset: Any) -> Any:
    """The 32 bits at an address, in every lane."""
    return e.splat(e.load(I32, base, offset))
