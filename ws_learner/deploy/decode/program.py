"""All kernels of one call as lists that a native loop runs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from ws_learner.deploy.decode.functions import Call, Kernel
from ws_learner.deploy.decode.isas import PORTABLE, compile_kernel
from ws_learner.deploy.decode.team import TEAM, meeting, start_meetings
from ws_learner.deploy.runtime.codegen.llvm_emitter import I64, PTR, VOID, Emitter
from ws_learner.deploy.runtime.codegen.native_program import address_of
from ws_learner.deploy.runtime.codegen.parallel import run_parts

__all__ = ["Phase", "Program"]

_KERNEL = ir.FunctionType(VOID, [PTR, PTR])
Phase = tuple[Call, ...]
"""Kernels that may run at once, each in a thread; one alone runs in the first thread."""


class Program:
    """Lists of kernels, one for each thread; `run` is one native call in each."""

    def __init__(self, phases: Sequence[Phase], *, threads: int = 1) -> None:
        """The calls are kept, and what they hold."""
        self._lists: list[list[Call]] = [[] for _ in range(threads)]
        meetings, before = 0, 1
        for phase in phases:
            if max(before, len(phase)) > 1:  # a thread needs what another has made
                meetings += 1
                for own in self._lists:
                    own.append(meeting(meetings * threads))
            for own, call in zip(self._lists, phase, strict=False):
                own.append(call)
            before = len(phase)
        self._run, self._tables = _driver(), [_table(own) for own in self._lists]
        self._addresses = [int(table.ctypes.data) for table in self._tables]

    def run(self, state: int) -> None:
        """Run all kernels on the state at this address."""
        if len(self._addresses) == 1:
            self._run(self._addresses[0], state)
            return
        with TEAM:
            start_meetings(state)
            run_parts(lambda n: self._run(self._addresses[n], state), len(self._addresses))


def _table(calls: Sequence[Call]) -> npt.NDArray[np.int64]:
    numbers = [len(calls)]
    for call in calls:
        numbers += [address_of(call.kernel), call.table.ctypes.data]
    return np.array(numbers, np.int64)


@functools.cache
def _driver() -> Kernel:
    e = Emitter("kernel", arguments=[PTR, PTR], lanes=1)
    rows, state = e.arguments
    with e.loop(0, e.load(I64, rows)) as i:
        place = e.at(rows, e.add(8, e.mul(i, 16)))
        function = e.builder.inttoptr(e.load(I64, place), _KERNEL.as_pointer())
        e.builder.call(function, [e.builder.inttoptr(e.load(I64, place, 8), PTR), state])
    return compile_kernel(e.finish(), PORTABLE)
