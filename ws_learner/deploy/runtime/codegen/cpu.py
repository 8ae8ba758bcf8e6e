"""Instruction sets of this processor."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from dataclasses import dataclass

__all__ = ["ISAS", "TILES_BF16", "Isa", "cpu_key", "has_bf16_tiles", "host_features", "usable_isas"]

_V3 = ("avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")


@dataclass(frozen=True, kw_only=True)
class Isa:
    """An instruction set that kernels are generated for.

    Attributes:
        name: Its key.
        lanes: 32-bit values in a vector.
        registers: Vector registers.
        dot: How bytes are multiplied.
        needs: LLVM's names of the features code may use.
    """

    name: str
    lanes: int
    registers: int
    dot: str
    needs: tuple[str, ...]


ISAS = {
    isa.name: isa
    for isa in (
        Isa(name="amx", lanes=16, registers=32, dot="amx", needs=(*_V4, "avx512vnni", "amx-int8")),
        Isa(name="avx512vnni", lanes=16, registers=32, dot="vnni", needs=(*_V4, "avx512vnni")),
        Isa(name="avx512", lanes=16, registers=32, dot="madd", needs=_V4),
        Isa(name="avxvnni", lanes=8, registers=16, dot="vnni", needs=(*_V3, "avxvnni")),
        Isa(name="avx2", lanes=8, registers=16, dot="madd", needs=_V3),
    )
}
"""Best first."""

TILES_BF16 = Isa(
    name="amx-bf16", lanes=16, registers=32, dot="amx", needs=(*ISAS["amx"].needs, "amx-bf16")
)
"""For products of bfloat16; see `pair_kernel`."""


@functools.cache
def host_features() -> frozenset[str] | None:
    """LLVM's names of what this processor has; None where no code can be generated."""
    if platform.machine().lower() not in {"x86_64", "amd64"} or sys.platform == "win32":
        return None
    try:
        import llvmlite.binding as llvm
    except ImportError:
        return None
    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


@functools.cache
def usable_isas() -> tuple[Isa, ...]:
    """The instruction sets of this processor and system, best first; empty without llvmlite."""
    found = host_features()
    if found is None:
        return ()
    return tuple(
        isa
        for isa in ISAS.values()
        if found.issuperset(isa.needs) and (isa.name != "amx" or _tiles_allowed())
    )


@functools.cache
def has_bf16_tiles() -> bool:
    """Whether AMX may be used here, and multiplies bfloat16."""
    if not any(isa.dot == "amx" for isa in usable_isas()):
        return False
    import llvmlite.binding as llvm

    return bool(llvm.get_host_cpu_features().get("amx-bf16", False))


def cpu_key() -> str:
    """What a timed choice depends on: the processor's model and the sets it can use."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            named = [line.partition(":")[2].strip() for line in file if "model name" in line]
        model = named[0] if named else model
    except OSError:
        pass
    return " ".join([model, *(isa.name for isa in usable_isas())])


def _tiles_allowed() -> bool:
    """Ask Linux to let this process use AMX tile registers (arch_prctl, kernel 5.16)."""
    if not sys.platform.startswith("linux"):
        return False
    call, request, tile_data = 158, 0x1023, 18
    return bool(ctypes.CDLL(None, use_errno=True).syscall(call, request, tile_data) == 0)
