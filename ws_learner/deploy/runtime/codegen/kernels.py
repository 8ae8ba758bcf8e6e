"""Kernel compilation: emitted LLVM IR, compiled once per process, called by address."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from ws_learner.deploy.runtime.codegen.arithmetic import float_at, quantise
from ws_learner.deploy.runtime.codegen.attention_kernel import attention_source
from ws_learner.deploy.runtime.codegen.cpu import ISAS, TILES_BF16, Isa, usable_isas
from ws_learner.deploy.runtime.codegen.driver import driver_source, repeater_source
from ws_learner.deploy.runtime.codegen.image_kernel import image_source
from ws_learner.deploy.runtime.codegen.llvm_emitter import I8, I64, PTR, Emitter
from ws_learner.deploy.runtime.codegen.pair_kernel import pair_source
from ws_learner.deploy.runtime.codegen.row_arithmetic import norm_source
from ws_learner.deploy.runtime.codegen.sequence_driver import sequence_source
from ws_learner.deploy.runtime.codegen.spec import SLOTS, Spec
from ws_learner.deploy.runtime.codegen.tile_epilogue import Chunk, finish_chunk
from ws_learner.deploy.runtime.codegen.tile_multiply import configure_tiles, multiply_segment
from ws_learner.deploy.runtime.codegen.tile_pack import pack, tile_at
from ws_learner.deploy.runtime.codegen.vector_kernel import emit_vector

__all__ = [
    "compile_text",
    *("Function", "compiled", "compiled_attention", "compiled_driver", "compiled_norm"),
    *("compiled_pairs", "compiled_quantiser", "compiled_repeater", "compiled_sequences", "source"),
]

Function = Callable[..., None]
"""Takes addresses of table, input, output and scratch, and the tokens from, up to."""

_POINTERS = ("values", "indices", "pointers", "scale", "bias", "correction", "quantisation")
_lock = threading.Lock()
_engines: list[Any] = []  # code is freed with its engine


def source(spec: Spec) -> str:
    """The kernel in LLVM's language."""
    if spec.layout == "images":
        return image_source(spec)
    e = Emitter("kernel", arguments=[PTR] * 4 + [I64] * 2, lanes=ISAS[spec.isa].lanes)
    numbers, x, y, scratch, begin, end = e.arguments
    table: dict[str, Any] = {}
    for slot, name in enumerate(SLOTS):
        value = e.load(I64, numbers, 8 * slot)
        table[name] = e.builder.inttoptr(value, PTR) if name in _POINTERS else value
    if spec.layout == "vector":
        emit_vector(e, spec, table, x=x, y=y, scratch=scratch, tokens=(begin, end))
    else:
        _emit_tiles(e, spec, table, x=x, y=y, scratch=scratch, tokens=(begin, end))
    return e.finish()


def _emit_tiles(
    e: Emitter,
    spec: Spec,
    table: dict[str, Any],
    *,
    x: Any,
    y: Any,
    scratch: Any,
    tokens: tuple[Any, Any],
) -> None:
    width, laid_out = spec.vectors * e.lanes * 4, spec.source == "tile"
    sums = e.at(scratch, table["tile_bytes"])
    if spec.dot == "amx":
        setup = e.at(sums, e.mul(table["chunk"], width))
        configure_tiles(e, setup)
        table["gather"] = e.at(setup, 64)
    padded = e.mul(e.div(e.add(table["outputs"], 15), 16), 16)
    blocks = e.div(e.add(table["inputs"], spec.inputs - 1), spec.inputs)
    with e.loop(tokens[0], tokens[1], spec.vectors * e.lanes) as first:
        tile = tile_at(e, spec, x, first, table["tile_bytes"]) if laid_out else scratch
        if not laid_out:
            pack(e, spec, table, x=x, tile=tile, first=first, end=tokens[1])
        segment = e.variable(I64)
        segment.set(e.word(0))
        with e.loop(0, padded, table["chunk"]) as row:
            last = e.least(e.add(row, table["chunk"]), padded)
            with e.loop(0, blocks, table["panel"]) as block:
                panel = e.at(tile, e.mul(block, spec.steps * width))
                fresh = e.builder.icmp_signed("==", block, e.word(0))
                with e.loop(row, last, spec.rows) as n:
                    place = e.at(sums, e.mul(e.sub(n, row), width))
                    multiply_segment(
                        e, spec, table, segment=segment.get(), panel=panel, sums=place, fresh=fresh
                    )
                    segment.set(e.add(segment.get(), 1))
            chunk = Chunk(sums=sums, y=y, rows=(row, last), first=first, end=tokens[1])
            finish_chunk(e, spec, table, chunk)
    if spec.dot == "amx":
        e.call("llvm.x86.tilerelease", ir.VoidType())


@functools.cache
def compiled(spec: Spec) -> Function:
    """The kernel as a function; the same settings are compiled once. Releases Python's lock.

    Raises:
        RuntimeError: This processor lacks the instruction set.
    """
    if ISAS[spec.isa] not in usable_isas():  # asking also enables AMX
        raise RuntimeError(f"this processor or system has no {spec.isa}")
    return compile_text(source(spec), ISAS[spec.isa])


@functools.cache
def compiled_pairs(tables: int, width: int) -> Function:
    """See `pair_kernel`: the caller asks `has_bf16_tiles` first."""
    return compile_text(pair_source(tables, width), TILES_BF16)


@functools.cache
def compiled_quantiser() -> Function:
    """Floats to bytes by the best instruction set: `begin` and `end` count values."""
    isa = usable_isas()[0]
    e = Emitter("kernel", arguments=[PTR] * 4 + [I64] * 2, lanes=isa.lanes)
    numbers, x, y, _, begin, end = e.arguments
    inverse, zero = (float_at(e, numbers, place) for place in (0, 1))
    with e.loop(begin, end, isa.lanes) as i:
        mask = e.below(e.sub(end, i))
        values = quantise(e, e.load_masked(e.floats, x, e.mul(i, 4), mask), inverse, zero)
        e.store_masked(e.builder.trunc(values, ir.VectorType(I8, isa.lanes)), y, i, mask)
    return compile_text(e.finish(), isa)


@functools.cache
def compiled_driver() -> Callable[[int], None]:
    """See `driver`: takes the address of a job."""
    return compile_text(driver_source(), ISAS["avx2"], arguments=1)


@functools.cache
def compiled_repeater() -> Callable[[int], None]:
    """See `repeater_source`: takes the address of its numbers."""
    return compile_text(repeater_source(), ISAS["avx2"], arguments=1)


@functools.cache
def compiled_attention(depth: int, lanes: int) -> Function:
    """See `attention_kernel`; for the best instruction set of so many lanes."""
    return compile_text(attention_source(depth, lanes), _of_lanes(lanes))


@functools.cache
def compiled_norm(lanes: int) -> Function:
    """See `norm_source`."""
    return compile_text(norm_source(lanes), _of_lanes(lanes))


@functools.cache
def compiled_sequences() -> Callable[[int], None]:
    """See `sequence_driver`: takes the address of a job."""
    return compile_text(sequence_source(), ISAS["avx2"], arguments=1)


def _of_lanes(lanes: int) -> Isa:
    return next(isa for isa in usable_isas() if isa.lanes == lanes and isa.dot != "amx")


def compile_text(text: str, isa: Isa, *, arguments: int = 6) -> Function:
    """The function `kernel` of a module in LLVM's language, compiled; it releases Python's lock.

    Args:
        text: The module.
        isa: What the code may use; this processor must have it.
        arguments: How many the function has: up to four addresses, then numbers.
    """
    import llvmlite.binding as llvm

    with _lock:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        module = llvm.parse_assembly(text)
        module.verify()
        machine = _machine(isa)
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        _engines.append(engine)
        address = engine.get_function_address("kernel")
    kind = ctypes.CFUNCTYPE(None, *[*[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 2][:arguments])
    function: Function = kind(address)
    return function


def _machine(isa: Isa) -> Any:
    import llvmlite.binding as llvm

    features = [f"+{name}" for name in isa.needs]
    if isa.dot == "amx":
        features.append("+amx-tile")
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu="x86-64", features=",".join([*features, "-prefer-256-bit"]), opt=3, jit=True
    )
