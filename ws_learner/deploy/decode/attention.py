"""Rotary positions, the cache, and attention of one query at a time with grouped keys and values.

Keys of a group lie in blocks of 16 positions, (blocks, depth, 16), so that positions are in the
vector lanes; values are (positions, depth). Both are float32 or float16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from ws_learner.deploy.decode.opened import Opened
from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, Emitter
from ws_learner.deploy.runtime.codegen.row_arithmetic import across, exponential

__all__ = ["ATTENTION_SLOTS", "KEYS", "AttentionSpec", "append_source", "attention_source"]

KEYS = 16
ATTENTION_SLOTS = (
    *("x", "x_bytes", "y", "y_bytes", "keys", "values", "scores", "room"),
    *("cosines", "sines", "scale", "first", "last"),
)
"""Places of projections (queries, keys and values of all heads), output, cache and scores;
positions that the cache has room for; addresses of (positions, depth) cosines and sines; factor of
scores; groups of heads from, up to, for attention."""
_HALF = ir.HalfType()
_MOST_SUMS = 12


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """One generated function.

    Attributes:
        lanes: 32-bit values in a vector.
        depth: Of a head, a multiple of 16.
        heads: Of queries.
        groups: Of keys and values.
        half: Whether the cache is float16.
        rotary: Whether queries and keys are turned by their positions.
    """

    lanes: int
    depth: int
    heads: int
    groups: int
    half: bool
    rotary: bool = True

    @property
    def each(self) -> int:
        """Heads of a group."""
        return self.heads // self.groups

    @property
    def item(self) -> int:
        """Bytes of a number in the cache."""
        return 2 if self.half else 4


def append_source(spec: AttentionSpec) -> str:
    """Queries and keys are turned (Su et al. 2021), keys and values go to the cache."""
    o = Opened(spec.lanes, ATTENTION_SLOTS)
    e, width = o.e, spec.groups * spec.depth
    with e.loop(0, o.control("count")) as token:
        position = e.add(o.control("position"), token)
        row = o.row("x", token)
        for head in range(spec.heads + spec.groups if spec.rotary else 0):
            _turn(o, spec, e.at(row, 4 * head * spec.depth), position)
        keys = e.at(row, 4 * spec.heads * spec.depth)
        values = e.at(keys, 4 * width)
        with e.loop(0, spec.groups) as group:
            own = e.mul(group, 4 * spec.depth)
            _keep(o, spec, e.at(keys, own), e.at(values, own), group, position)
    return e.finish()


def _turn(o: Opened, spec: AttentionSpec, base: Any, position: Any) -> None:
    e, b, half = o.e, o.e.builder, 2 * spec.depth
    row = e.mul(position, 4 * spec.depth)
    cosines, sines = (e.at(o.address(name), row) for name in ("cosines", "sines"))
    step = math.gcd(e.lanes, spec.depth // 2)
    kind = ir.VectorType(F32, step)
    for at in range(0, half, 4 * step):
        low, high = e.load(kind, base, at), e.load(kind, base, half + at)
        near, far = e.load(kind, cosines, at), e.load(kind, cosines, half + at)
        one, two = e.load(kind, sines, at), e.load(kind, sines, half + at)
        e.store(b.fsub(b.fmul(low, near), b.fmul(high, one)), base, at)
        e.store(b.fadd(b.fmul(high, far), b.fmul(low, two)), base, half + at)


def _keep(o: Opened, spec: AttentionSpec, key: Any, value: Any, group: Any, position: Any) -> None:
    e, b = o.e, o.e.builder
    first = e.mul(e.mul(group, o.table["room"]), spec.depth * spec.item)
    block = e.mul(e.div(position, KEYS), KEYS * spec.depth * spec.item)
    within = e.mul(b.and_(position, e.word(KEYS - 1)), spec.item)
    keys = e.at(o.state, e.add(o.table["keys"], first, block, within))
    row = e.mul(position, spec.depth * spec.item)
    values = e.at(o.state, e.add(o.table["values"], first, row))
    with e.loop(0, spec.depth) as d:
        for source, target, step in (
            (key, keys, KEYS * spec.item),
            (value, values, spec.item),
        ):
            number = e.load(F32, source, e.mul(d, 4))
            number = b.fptrunc(number, _HALF) if spec.half else number
            e.store(number, target, e.mul(d, step))


def _cached(e: Emitter, spec: AttentionSpec, base: Any, offset: Any) -> Any:
    """A vector of the cache as floats."""
    if not spec.half:
        return e.load(e.floats, base, offset)
    narrow = e.load(ir.VectorType(_HALF, e.lanes), base, offset)
    return e.builder.fpext(narrow, e.floats)


def attention_source(spec: AttentionSpec) -> str:
    """Softmax of a query's products with all keys up to its own position, times the values."""
    o = Opened(spec.lanes, ATTENTION_SLOTS)
    e = o.e
    with e.loop(0, o.control("count")) as token:
        length = e.add(o.control("position"), token, 1)
        query, out = o.row("x", token), o.row("y", token)
        with e.loop(o.table["first"], o.table["last"]) as group:
            first = e.mul(e.mul(group, o.table["room"]), spec.depth * spec.item)
            keys = e.at(o.state, e.add(o.table["keys"], first))
            values = e.at(o.state, e.add(o.table["values"], first))
            own = e.mul(group, 4 * spec.depth * spec.each)
            _score(o, spec, e.at(query, own), keys, length)
            for head in range(spec.each):
                _weigh(o, head, length)
            _mix(o, spec, e.at(out, own), values, length)
    return e.finish()


def _scores(o: Opened, head: int) -> Any:
    e = o.e
    return e.at(o.state, e.add(o.table["scores"], e.mul(o.table["room"], 4 * head)))


def _score(o: Opened, spec: AttentionSpec, query: Any, keys: Any, length: Any) -> None:
    e, b, parts = o.e, o.e.builder, KEYS // o.e.lanes
    rows = [_scores(o, head) for head in range(spec.each)]
    scale = o.float("scale")
    with e.loop(0, length, KEYS) as j:
        block = e.at(keys, e.mul(j, spec.depth * spec.item))
        # two sums each, of even and odd places: one would wait for each addition
        sums = [[[e.variable(e.floats) for _ in range(2)] for _ in range(parts)] for _ in rows]
        for variable in (v for head in sums for part in head for v in part):
            variable.set(ir.Constant(e.floats, None))
        with e.loop(0, spec.depth, 2) as d:
            for odd in (0, 1):
                place = e.mul(e.add(d, odd), KEYS * spec.item)
                wide = [
                    _cached(e, spec, block, e.add(place, p * e.lanes * spec.item))
                    for p in range(parts)
                ]
                for head, own in enumerate(sums):
                    at = e.add(4 * head * spec.depth + 4 * odd, e.mul(d, 4))
                    single = e.splat(e.load(F32, query, at))
                    for part, key in zip(own, wide, strict=True):
                        part[odd].set(e.fma(single, key, part[odd].get()))
        for row, own in zip(rows, sums, strict=True):
            for p, (even, odd_sum) in enumerate(own):
                total = b.fmul(b.fadd(even.get(), odd_sum.get()), scale)
                e.store(total, row, e.add(e.mul(j, 4), 4 * p * e.lanes))


def _weigh(o: Opened, head: int, length: Any) -> None:
    """Scores become weights of sum 1; 0 beyond the length."""
    e, b, row = o.e, o.e.builder, _scores(o, head)
    low, most, total = e.constant(float("-inf")), e.variable(e.floats), e.variable(e.floats)
    most.set(low)
    total.set(ir.Constant(e.floats, None))
    with e.loop(0, length, e.lanes) as j:
        inside = e.below(e.sub(length, j))
        value = b.select(inside, e.load(e.floats, row, e.mul(j, 4)), low)
        most.set(e.largest(value, most.get()))
    peak = across(e, most.get(), e.largest)
    with e.loop(0, length, e.lanes) as j:
        inside = e.below(e.sub(length, j))
        value = b.select(inside, e.load(e.floats, row, e.mul(j, 4)), low)
        power = exponential(e, b.fsub(value, peak))
        e.store(power, row, e.mul(j, 4))
        total.set(b.fadd(total.get(), power))
    share = b.fdiv(e.constant(1.0), across(e, total.get(), b.fadd))
    with e.loop(0, length, e.lanes) as j:
        e.store(b.fmul(e.load(e.floats, row, e.mul(j, 4)), share), row, e.mul(j, 4))


def _mix(o: Opened, spec: AttentionSpec, out: Any, values: Any, length: Any) -> None:
    e, parts = o.e, spec.depth // o.e.lanes
    pairs = [(head, part) for head in range(spec.each) for part in range(parts)]
    for begin in range(0, len(pairs), _MOST_SUMS):
        now = pairs[begin : begin + _MOST_SUMS]
        sums = [e.variable(e.floats) for _ in now]
        for variable in sums:
            variable.set(ir.Constant(e.floats, None))
        heads, needed = sorted({h for h, _ in now}), sorted({p for _, p in now})
        with e.loop(0, length) as j:
            row = e.at(values, e.mul(j, spec.depth * spec.item))
            wide = {p: _cached(e, spec, row, p * e.lanes * spec.item) for p in needed}
            weights = {h: e.splat(e.load(F32, _scores(o, h), e.mul(j, 4))) for h in heads}
            for variable, (head, part) in zip(sums, now, strict=True):
                variable.set(e.fma(weights[head], wide[part], variable.get()))
        for variable, (head, part) in zip(sums, now, strict=True):
            e.store(variable.get(), out, 4 * (head * spec.depth + part * e.lanes))
