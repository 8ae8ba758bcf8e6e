"""First part of a direct convolution: an image is copied into padded planes of 32-bit lanes.

A lane holds one channel as a float, four as bytes, or two as halves; see `image_plan`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.arithmetic import float_at, quantise
from ws_learner.deploy.runtime.codegen.image_plan import PHASE
from ws_learner.deploy.runtime.codegen.llvm_emitter import I32, I64, PTR, Emitter
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.codegen.tile_pack import interleave

__all__ = ["pack_image"]


def pack_image(e: Emitter, spec: Spec, table: dict[str, Any], *, x: Any, planes: Any) -> None:
    """Copy the image at `x` (C, H, W) to `planes`; what lies outside becomes zeros."""
    plane_bytes = e.mul(e.mul(table["phase_lanes"], table["phases"]), 4)
    blank = _word(e, spec, table, [e.constant(0.0)] * spec.packed)
    last = e.sub(table["channels"], 1)
    channel_bytes = e.mul(e.mul(table["height"], table["width"]), 4)
    with e.loop(0, table["planes"]) as plane:
        channels = [
            e.at(x, e.mul(e.least(e.add(e.mul(plane, spec.packed), p), last), channel_bytes))
            for p in range(spec.packed)
        ]
        with e.loop(0, table["phases"]) as phase:
            numbers = e.at(table["phase_table"], e.mul(phase, 8 * len(PHASE)))
            of = {name: e.load(I64, numbers, 8 * i) for i, name in enumerate(PHASE)}
            target = e.at(planes, e.add(e.mul(plane, plane_bytes), e.mul(of["base"], 4)))
            # What is written beyond a region is overwritten: regions and planes come in order.
            _clear(e, blank, target, 0, e.mul(of["top"], table["pitch"]))
            _clear(e, blank, target, e.mul(of["bottom"], table["pitch"]), table["phase_lanes"])
            _copy_rows(e, spec, table, of, channels=channels, target=target)


def _clear(e: Emitter, blank: Any, target: Any, begin: Any, end: Any) -> None:
    with e.loop(begin, end, e.lanes) as lane:
        e.store(blank, target, e.mul(lane, 4))


def _copy_rows(
    e: Emitter,
    spec: Spec,
    table: dict[str, Any],
    of: dict[str, Any],
    *,
    channels: list[Any],
    target: Any,
) -> None:
    step, width = table["step_across"], table["width"]
    one = e.builder.icmp_signed("==", step, e.word(1))
    two = e.builder.icmp_signed("==", step, e.word(2))
    with e.loop(0, table["wide"], e.lanes) as j:
        start = e.add(of["column"], e.mul(j, step))
        keep = e.below(e.sub(table["wide"], j))

        def rows(read: Any, keep: Any = keep, start: Any = start, j: Any = j) -> None:
            with e.loop(of["top"], of["bottom"]) as row:
                source = e.add(of["row"], e.mul(row, table["step_down"]))
                at = e.mul(e.add(e.mul(source, width), start), 4)
                word = _word(e, spec, table, [read(channel, at) for channel in channels])
                place = e.mul(e.add(e.mul(row, table["pitch"]), j), 4)
                e.store_masked(word, target, place, keep)

        with e.builder.if_else(one) as (then, otherwise):
            with then:
                mask = _between(e, start, width)
                rows(lambda channel, at: e.load_masked(e.floats, channel, at, mask))
            with otherwise, e.builder.if_else(two) as (evens, others):
                with evens:
                    low, high = (_between(e, e.add(start, k), width) for k in (0, e.lanes))
                    rows(lambda channel, at: _evens(e, channel, at, (low, high)))
                with others:
                    index, there = _strided(e, start, step, width)
                    rows(lambda channel, at: _gathered(e, channel, at, index, there))


def _between(e: Emitter, start: Any, width: Any) -> Any:
    """Mask of the lanes whose column, from `start` on, lies in the image."""
    b = e.builder
    return b.and_(e.below(e.sub(width, start)), b.not_(e.below(e.sub(0, start))))


def _evens(e: Emitter, channel: Any, at: Any, masks: tuple[Any, Any]) -> Any:
    low, high = (
        e.load_masked(e.floats, channel, e.add(at, k * 4 * e.lanes), mask)
        for k, mask in enumerate(masks)
    )
    return e.shuffle(low, high, range(0, 2 * e.lanes, 2))


def _strided(e: Emitter, start: Any, step: Any, width: Any) -> tuple[Any, Any]:
    """Bytes from the first lane's column to each lane's, and which of these are in the image."""
    b = e.builder
    numbers = ir.Constant(e.ints, list(range(e.lanes)))
    ahead = b.mul(numbers, e.splat(b.trunc(step, I32)))
    column = b.add(ahead, e.splat(b.trunc(start, I32)))
    inside = b.icmp_unsigned("<", column, e.splat(b.trunc(width, I32)))
    return b.mul(ahead, ir.Constant(e.ints, [4] * e.lanes)), inside


def _gathered(e: Emitter, channel: Any, at: Any, index: Any, there: Any) -> Any:
    wide = e.builder.sext(index, ir.VectorType(I64, e.lanes))
    addresses = e.builder.add(e.splat(e.builder.ptrtoint(e.at(channel, at), I64)), wide)
    places = e.builder.inttoptr(addresses, ir.VectorType(PTR, e.lanes))
    zero, align = ir.Constant(e.floats, None), ir.Constant(I32, 4)
    name = f"llvm.masked.gather.v{e.lanes}f32.v{e.lanes}p0"
    return e.call(name, e.floats, places, align, there, zero)


def _word(e: Emitter, spec: Spec, table: dict[str, Any], parts: list[Any]) -> Any:
    if not spec.int8:
        return e.builder.bitcast(parts[0], e.ints)
    inverse, zero = (float_at(e, table["quantisation"], place) for place in (0, 1))
    return interleave(e, [quantise(e, part, inverse, zero) for part in parts])
