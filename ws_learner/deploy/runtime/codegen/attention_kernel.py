"""Scaled dot product attention (Vaswani et al. 2017, section 3.2.1) of whole sequences, in floats.

Called with the projections of `sequences` x `length` tokens, a row of queries, keys and values of
all heads for each; writes (tokens, width). Keys are turned first, so that they lie in the lanes.
Four queries at a time get their scores, their weights, and the weighted sum of the values.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, I64, PTR, Emitter
from ws_learner.deploy.runtime.codegen.row_arithmetic import across, exponential
from ws_learner.deploy.runtime.codegen.sequence_tables import (
    ATTENTION_SLOTS,
    HEADER,
    KEYS,
    QUERIES,
)

__all__ = ["attention_source"]


def attention_source(depth: int, lanes: int) -> str:
    """The kernel in LLVM's language, for heads of `depth`, a multiple of `lanes`."""
    e = Emitter("kernel", arguments=[PTR] * 4 + [I64] * 2, lanes=lanes)
    numbers, x, y, memory, length, sequences = e.arguments
    table: dict[str, Any] = {
        name: e.load(I64, numbers, 8 * slot) for slot, name in enumerate(ATTENTION_SLOTS)
    }
    table["scale"] = e.splat(e.load(F32, numbers, 8 * ATTENTION_SLOTS.index("scale")))
    table["mask"], table["mask_bytes"], table["mask_row"] = (
        e.load(I64, memory, 8 * place) for place in range(3)
    )
    step = KEYS * lanes
    padded = e.mul(e.div(e.add(length, step - 1), step), step)
    keys = e.at(memory, HEADER)
    scores = e.at(keys, e.mul(padded, 4 * depth))
    with e.loop(0, sequences) as sequence, e.loop(0, table["heads"]) as head:
        first = e.mul(sequence, length)
        inside = e.mul(head, 4 * depth)
        own = e.at(x, e.add(e.mul(first, table["row_bytes"]), inside))
        out = e.at(y, e.add(e.mul(first, table["width_bytes"]), inside))
        of = table | {
            "length": length,
            "padded": padded,
            "mask": e.add(table["mask"], e.mul(sequence, table["mask_bytes"])),
            "masked": e.builder.icmp_unsigned("!=", table["mask"], e.word(0)),
        }
        _turn_keys(e, of, own=own, keys=keys, depth=depth)
        with e.loop(0, length, QUERIES) as query:
            _score(e, of, own=own, keys=keys, scores=scores, query=query, depth=depth)
            sums = [_weigh(e, of, scores=scores, query=query, part=g) for g in range(QUERIES)]
            _mix(e, of, own=own, scores=scores, sums=sums, out=out, query=query, depth=depth)
    return e.finish()


def _row(e: Emitter, of: dict[str, Any], token: Any) -> Any:
    """Bytes from the first token to this one, or to the last where it is beyond."""
    return e.mul(e.least(token, e.sub(of["length"], 1)), of["row_bytes"])


def _turn_keys(e: Emitter, of: dict[str, Any], *, own: Any, keys: Any, depth: int) -> None:
    """(length, depth) to (depth, padded)."""
    with e.loop(0, of["padded"], e.lanes) as j:
        places = [e.add(_row(e, of, e.add(j, lane)), of["key_bytes"]) for lane in range(e.lanes)]
        for d in range(0, depth, e.lanes):
            rows = [e.load(e.floats, own, e.add(place, 4 * d)) for place in places]
            for i, row in enumerate(e.transpose(rows)):
                e.store(row, keys, e.mul(e.add(e.mul(of["padded"], d + i), j), 4))


def _score(
    e: Emitter, of: dict[str, Any], *, own: Any, keys: Any, scores: Any, query: Any, depth: int
) -> None:
    queries = [e.at(own, _row(e, of, e.add(query, g))) for g in range(QUERIES)]
    zero = ir.Constant(e.floats, None)
    with e.loop(0, of["padded"], KEYS * e.lanes) as j:
        kept = [[e.variable(e.floats) for _ in range(KEYS)] for _ in range(QUERIES)]
        for variable in (v for own_row in kept for v in own_row):
            variable.set(zero)
        with e.loop(0, depth) as d:
            place = e.mul(e.add(e.mul(of["padded"], d), j), 4)
            wide = [e.load(e.floats, keys, e.add(place, 4 * e.lanes * w)) for w in range(KEYS)]
            for base, variables in zip(queries, kept, strict=True):
                single = e.splat(e.load(F32, base, e.mul(d, 4)))
                for variable, key in zip(variables, wide, strict=True):
                    variable.set(e.fma(single, key, variable.get()))
        for g, variables in enumerate(kept):
            for w, variable in enumerate(variables):
                place = e.mul(e.add(e.mul(of["padded"], g), e.add(j, w * e.lanes)), 4)
                e.store(e.builder.fmul(variable.get(), of["scale"]), scores, place)


def _weigh(e: Emitter, of: dict[str, Any], *, scores: Any, query: Any, part: int) -> Any:
    """Scores of one query become exponentials, 0 beyond the end; returns their sum."""
    b = e.builder
    row = e.at(scores, e.mul(of["padded"], 4 * part))
    low = e.constant(float("-inf"))
    token = e.least(e.add(query, part), e.sub(of["length"], 1))
    # Without a mask nothing is read, but of memory that is there: else a processor takes long.
    mask = e.add(of["mask"], e.mul(token, of["mask_row"]))
    mask = b.select(of["masked"], b.inttoptr(mask, PTR), scores)
    most, total = e.variable(e.floats), e.variable(e.floats)
    most.set(low)
    total.set(ir.Constant(e.floats, None))
    with e.loop(0, of["padded"], e.lanes) as j:
        inside = e.below(e.sub(of["length"], j))
        read = b.select(of["masked"], inside, ir.Constant(inside.type, None))
        values = e.load(e.floats, row, e.mul(j, 4))
        place = b.select(of["masked"], e.mul(j, 4), e.word(0))
        values = b.fadd(values, e.load_masked(e.floats, mask, place, read))
        values = b.select(inside, values, low)
        e.store(values, row, e.mul(j, 4))
        most.set(_larger(e, values, most.get()))
    peak = across(e, most.get(), lambda p, q: _larger(e, p, q))
    # All keys masked: weights are 0, as PyTorch has it.
    peak = b.select(b.fcmp_ordered("==", peak, low), ir.Constant(e.floats, None), peak)
    with e.loop(0, of["padded"], e.lanes) as j:
        values = exponential(e, b.fsub(e.load(e.floats, row, e.mul(j, 4)), peak))
        e.store(values, row, e.mul(j, 4))
        total.set(b.fadd(total.get(), values))
    return across(e, total.get(), b.fadd)


def _larger(e: Emitter, a: Any, b: Any) -> Any:
    """Lane by lane; what is not a number stays."""
    return e.builder.select(e.builder.fcmp_unordered(">", a, b), a, b)


def _mix(
    e: Emitter,
    of: dict[str, Any],
    *,
    own: Any,
    scores: Any,
    sums: list[Any],
    out: Any,
    query: Any,
    depth: int,
) -> None:
    b, one, zero = e.builder, e.constant(1.0), ir.Constant(e.floats, None)
    empty = [b.fcmp_ordered("==", total, zero) for total in sums]
    shares = [b.fdiv(one, b.select(n, one, s)) for n, s in zip(empty, sums, strict=True)]
    wide = 1 if depth // e.lanes % KEYS else KEYS
    with e.loop(0, 4 * depth, 4 * wide * e.lanes) as place:
        kept = [[e.variable(e.floats) for _ in range(wide)] for _ in range(QUERIES)]
        for variable in (v for own_row in kept for v in own_row):
            variable.set(zero)
        with e.loop(0, of["length"]) as j:
            at = e.add(e.mul(j, of["row_bytes"]), of["value_bytes"], place)
            values = [e.load(e.floats, own, e.add(at, 4 * e.lanes * w)) for w in range(wide)]
            for g, variables in enumerate(kept):
                weight = e.splat(e.load(F32, scores, e.mul(e.add(e.mul(of["padded"], g), j), 4)))
                for variable, value in zip(variables, values, strict=True):
                    variable.set(e.fma(weight, value, variable.get()))
        for g, (variables, share) in enumerate(zip(kept, shares, strict=True)):
            there = b.icmp_signed("<", e.add(query, g), of["length"])
            with b.if_then(there):
                to = e.add(e.mul(e.add(query, g), of["width_bytes"]), place)
                for w, variable in enumerate(variables):
                    result = b.fmul(variable.get(), share)
                    e.store(result, out, e.add(to, 4 * e.lanes * w))
