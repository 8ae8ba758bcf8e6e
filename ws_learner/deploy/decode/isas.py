"""Instruction sets that decode kernels are generated for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from ws_learner.deploy.runtime.codegen.cpu import ISAS, Isa, host_features

__all__ = ["DECODE_ISAS", "PORTABLE", "compile_kernel", "decode_isa", "usable_decode_isas"]

PORTABLE = "portable"

_VNNI = ISAS["avx512vnni"]
DECODE_ISAS = {
    isa.name: isa
    for isa in (
        Isa(
            name="avx512vbmi2",
            lanes=16,
            registers=32,
            dot="vnni",
            needs=(*_VNNI.needs, "popcnt", "avx512vbmi", "avx512vbmi2"),
        ),
        *(
            dataclasses.replace(ISAS[name], needs=(*ISAS[name].needs, "popcnt"))
            for name in ("avx512vnni", "avx512", "avxvnni", "avx2")
        ),
        Isa(name=PORTABLE, lanes=8, registers=16, dot="plain", needs=()),
    )
}
"""Best first. `avx512vbmi2` expands packed bytes by a mask in one instruction; `portable` uses
nothing beyond SSE2, which each x86-64 processor has."""


@functools.cache
def usable_decode_isas() -> tuple[Isa, ...]:
    """Those of this processor, best first; empty without llvmlite."""
    found = host_features()
    if found is None:
        return ()
    return tuple(isa for isa in DECODE_ISAS.values() if found.issuperset(isa.needs))


def decode_isa(name: str | None = None) -> Isa:
    """The instruction set of this name, or the best.

    Raises:
        RuntimeError: This processor lacks it, or there is none and no llvmlite.
    """
    usable = usable_decode_isas()
    if not usable:
        raise RuntimeError(
            "sparse decode needs an x86-64 processor, Linux or macOS, and llvmlite: "
            "pip install 'weight-sparse-learner[cpu]'"
        )
    if name is None:
        return usable[0]
    if name not in {isa.name for isa in usable}:
        raise RuntimeError(
            f"isa={name!r}: this processor has {', '.join(isa.name for isa in usable)}"
        )
    return DECODE_ISAS[name]


def compile_kernel(text: str, isa: str) -> Callable[[int, int], None]:
    """A module's function `kernel` of (table, state), compiled for a key of `DECODE_ISAS`."""
    from ws_learner.deploy.runtime.codegen.kernels import compile_text

    if isa == PORTABLE:  # without an instruction for it, fma is a call for each number
        text = text.replace("llvm.fma.v", "llvm.fmuladd.v")
    return compile_text(text, DECODE_ISAS[isa], arguments=2)
