"""Instruction sets that decode kernels are generated for."""

from __future__ import annotations

import dataclasses
import functools

from ws_learner.deploy.runtime.codegen.cpu import ISAS, Isa, usable_isas

__all__ = ["DECODE_ISAS", "decode_isa", "usable_decode_isas"]

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
    )
}
"""Best first. `avx512vbmi2` expands packed bytes by a mask in one instruction."""


@functools.cache
def usable_decode_isas() -> tuple[Isa, ...]:
    """Those of this processor, best first; empty without llvmlite."""
    if not usable_isas():
        return ()
    import llvmlite.binding as llvm

    found = {name for name, there in llvm.get_host_cpu_features().items() if there}
    return tuple(isa for isa in DECODE_ISAS.values() if found.issuperset(isa.needs))


def decode_isa(name: str | None = None) -> Isa:
    """The instruction set of this name, or the best.

    Raises:
        RuntimeError: This processor lacks it, or there is none and no llvmlite.
    """
    usable = usable_decode_isas()
    if not usable:
        raise RuntimeError(
            "sparse decode needs an x86-64 processor with AVX2, Linux or macOS, and llvmlite: "
            "pip install 'weight-sparse-learner[cpu]'"
        )
    if name is None:
        return usable[0]
    if name not in {isa.name for isa in usable}:
        raise RuntimeError(
            f"isa={name!r}: this processor has {', '.join(isa.name for isa in usable)}"
        )
    return DECODE_ISAS[name]
