"""The native function that runs kernels one after the other over a share of the tokens.

A job is a row of 64-bit numbers: `JOB`, then `STEP` for each kernel. The first kernel reads the
job's input, the last writes its output; between them values lie in the part's own memory, block of
tokens by block, so that they stay in the second cache.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.llvm_emitter import I32, I64, PTR, VOID, Emitter
from ws_learner.deploy.runtime.codegen.spec import JOB, STEP

__all__ = ["driver_source", "repeater_source"]

_KERNEL = ir.FunctionType(VOID, [PTR] * 4 + [I64] * 2)
_ASK = ir.FunctionType(I32, [])
_DRIVER = ir.FunctionType(VOID, [PTR])


def driver_source() -> str:
    """The function `kernel` of a job's address, in LLVM's language."""
    e = Emitter("kernel", arguments=[PTR], lanes=1)
    (job,) = e.arguments
    of = {name: e.load(I64, job, 8 * place) for place, name in enumerate(JOB)}
    number, team = e.variable(I64), e.variable(I64)
    number.set(of["number"])
    team.set(of["team"])
    with e.builder.if_then(e.builder.icmp_unsigned("!=", of["ask_number"], e.word(0))):
        for place, name in ((number, "ask_number"), (team, "ask_team")):
            ask = e.builder.inttoptr(of[name], _ASK.as_pointer())
            place.set(e.builder.zext(e.builder.call(ask, []), I64))
    with e.loop(number.get(), of["parts"], team.get()) as part:
        begin = e.mul(part, of["each"])
        end = e.least(e.add(begin, of["each"]), of["count"])
        own = e.add(of["memory"], e.mul(part, of["room"]))
        with e.loop(begin, end, of["block"]) as first:
            last = e.least(e.add(first, of["block"]), end)
            _run_steps(e, job, of, own=own, first=first, end=last)
    return e.finish()


def _run_steps(e: Emitter, job: Any, of: dict[str, Any], *, own: Any, first: Any, end: Any) -> None:
    images = e.builder.icmp_signed("!=", of["positions"], e.word(0))
    begin = e.builder.select(images, e.word(0), first)
    stop = e.builder.select(images, of["positions"], end)
    source, result = e.variable(I64), e.add(of["y"], e.mul(first, of["y_bytes"]))
    source.set(e.add(of["x"], e.mul(first, of["x_bytes"])))
    with e.loop(0, of["steps"]) as number:
        place = e.at(job, e.add(8 * len(JOB), e.mul(number, 8 * len(STEP))))
        step = {name: e.load(I64, place, 8 * i) for i, name in enumerate(STEP)}
        # As if outputs of all tokens lay there: kernels count from the first.
        before = e.mul(e.div(first, step["unit"]), step["bytes"])
        between = e.sub(e.add(own, step["offset"]), before)
        last = e.builder.icmp_signed("==", e.add(number, 1), of["steps"])
        target = e.builder.select(last, result, between)
        kernel = e.builder.inttoptr(step["function"], _KERNEL.as_pointer())
        table, x, y, memory = (
            e.builder.inttoptr(value, PTR) for value in (step["table"], source.get(), target, own)
        )
        e.builder.call(kernel, [table, x, y, memory, begin, stop])
        source.set(target)


def repeater_source() -> str:
    """A function of three 64-bit numbers at an address: what to call, on what job, how often."""
    e = Emitter("kernel", arguments=[PTR], lanes=1)
    (numbers,) = e.arguments
    function, job, times = (e.load(I64, numbers, 8 * place) for place in range(3))
    run = e.builder.inttoptr(function, _DRIVER.as_pointer())
    with e.loop(0, times):
        e.builder.call(run, [e.builder.inttoptr(job, PTR)])
    return e.finish()
