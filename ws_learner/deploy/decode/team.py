"""Threads that run one call's kernels together, and meet between them."""

from __future__ import annotations

import ctypes
import functools
import threading

import numpy as np
from llvmlite import ir

from ws_learner.deploy.decode.functions import Call, Kernel
from ws_learner.deploy.decode.isas import PORTABLE, compile_kernel
from ws_learner.deploy.decode.opened import CONTROL
from ws_learner.deploy.runtime.codegen.llvm_emitter import I32, I64, PTR, VOID, Emitter

__all__ = ["TEAM", "meeting", "start_meetings"]

TEAM = threading.Lock()
"""Held while threads run together: two teams at once could each wait for the other's threads."""
_ARRIVED = 8 * CONTROL.index("arrived")
_SPINS = 500  # times a thread looks before it lets others have the processor
_YIELDS = 500  # times it does that before it sleeps between looks
_NAP = 50  # microseconds


def start_meetings(state: int) -> None:
    """Nobody has arrived yet, in the state at this address."""
    ctypes.c_int64.from_address(state + _ARRIVED).value = 0


def meeting(arrivals: int) -> Call:
    """Arrive, and wait until so many have, all meetings of this call together."""
    library = ctypes.CDLL(None)
    calls = [ctypes.cast(f, ctypes.c_void_p).value for f in (library.sched_yield, library.usleep)]
    return Call(kernel=_meet(), table=np.array([arrivals, *calls], np.int64))


@functools.cache
def _meet() -> Kernel:
    e = Emitter("kernel", arguments=[PTR, PTR], lanes=1)
    b, (table, state) = e.builder, e.arguments
    wanted, place = e.load(I64, table), e.at(state, _ARRIVED)
    kinds = ir.FunctionType(I32, []), ir.FunctionType(I32, [I32])
    give_way, sleep = (
        b.inttoptr(e.load(I64, table, 8 * (1 + n)), kind.as_pointer())
        for n, kind in enumerate(kinds)
    )
    looks = e.variable(I64)
    looks.set(e.word(0))
    b.atomic_rmw("add", place, e.word(1), "seq_cst")
    names = ("look", "missing", "spin", "idle", "yield", "nap", "after")
    look, missing, spin, idle, give, nap, after = (b.append_basic_block(n) for n in names)
    b.branch(look)
    b.position_at_end(look)
    arrived = b.load_atomic(place, "acquire", 8, typ=I64)
    b.cbranch(b.icmp_signed(">=", arrived, wanted), after, missing)
    b.position_at_end(missing)
    looks.set(e.add(looks.get(), 1))
    b.cbranch(b.icmp_signed("<", looks.get(), e.word(_SPINS)), spin, idle)
    b.position_at_end(spin)
    e.call("llvm.x86.sse2.pause", VOID)
    b.branch(look)
    b.position_at_end(idle)
    b.cbranch(b.icmp_signed("<", looks.get(), e.word(_SPINS + _YIELDS)), give, nap)
    b.position_at_end(give)
    b.call(give_way, [])
    b.branch(look)
    b.position_at_end(nap)
    b.call(sleep, [ir.Constant(I32, _NAP)])
    b.branch(look)
    b.position_at_end(after)
    return compile_kernel(e.finish(), PORTABLE)
