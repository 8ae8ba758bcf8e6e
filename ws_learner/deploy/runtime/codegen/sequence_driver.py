"""The native function that runs kernels one after the other on whole sequences.

A job is a row of 64-bit numbers: `SEQUENCE_JOB`, then `SEQUENCE_STEP` for each kernel. Unlike in
`driver`, a kernel reads and writes wherever its step says, and a block holds whole sequences.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.llvm_emitter import I32, I64, PTR, VOID, Emitter
from ws_learner.deploy.runtime.codegen.sequence_tables import (
    INPUT,
    SEQUENCE_JOB,
    SEQUENCE_STEP,
)

__all__ = ["sequence_source"]

_KERNEL = ir.FunctionType(VOID, [PTR] * 4 + [I64] * 2)
_ASK = ir.FunctionType(I32, [])


def sequence_source() -> str:
    """The function `kernel` of a job's address, in LLVM's language."""
    e = Emitter("kernel", arguments=[PTR], lanes=1)
    (job,) = e.arguments
    of = {name: e.load(I64, job, 8 * place) for place, name in enumerate(SEQUENCE_JOB)}
    number, team = e.variable(I64), e.variable(I64)
    number.set(of["number"])
    team.set(of["team"])
    with e.builder.if_then(e.builder.icmp_unsigned("!=", of["ask_number"], e.word(0))):
        for place, name in ((number, "ask_number"), (team, "ask_team")):
            ask = e.builder.inttoptr(of[name], _ASK.as_pointer())
            place.set(e.builder.zext(e.builder.call(ask, []), I64))
    own = e.add(of["memory"], e.mul(number.get(), of["room"]))
    start, step = e.mul(number.get(), of["block"]), e.mul(team.get(), of["block"])
    with e.loop(start, of["count"], step) as first:
        last = e.least(e.add(first, of["block"]), of["count"])
        _run_steps(e, job, of, own=own, first=first, count=e.sub(last, first))
    return e.finish()


def _run_steps(
    e: Emitter, job: Any, of: dict[str, Any], *, own: Any, first: Any, count: Any
) -> None:
    b = e.builder
    before = e.mul(e.mul(first, of["length"]), of["row_bytes"])
    header = b.inttoptr(own, PTR)
    there = b.icmp_unsigned("!=", of["mask"], e.word(0))
    mask = e.add(of["mask"], e.mul(first, of["mask_bytes"]))
    for place, value in enumerate(
        (b.select(there, mask, e.word(0)), of["mask_bytes"], of["mask_row"])
    ):
        e.store(value, header, 8 * place)

    def address(place: Any) -> Any:
        inside = b.select(
            b.icmp_signed("==", place, e.word(INPUT)),
            e.add(of["x"], before),
            e.add(of["y"], before),
        )
        found = b.select(b.icmp_signed("<", place, e.word(0)), inside, e.add(own, place))
        return b.inttoptr(found, PTR)

    with e.loop(0, of["steps"]) as number:
        row = e.at(job, e.add(8 * len(SEQUENCE_JOB), e.mul(number, 8 * len(SEQUENCE_STEP))))
        step = {name: e.load(I64, row, 8 * i) for i, name in enumerate(SEQUENCE_STEP)}
        whole = b.icmp_signed("!=", step["whole"], e.word(0))
        begin = b.select(whole, of["length"], e.word(0))
        end = b.select(whole, count, e.mul(count, of["length"]))
        kernel = b.inttoptr(step["function"], _KERNEL.as_pointer())
        table = b.inttoptr(step["table"], PTR)
        places = [address(step[name]) for name in ("x", "y", "z")]
        b.call(kernel, [table, *places, begin, end])
