"""Which kernels are worth a trial for a weight matrix on this processor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt

from ws_learner.deploy.runtime.codegen.cpu import ISAS, Isa, usable_isas
from ws_learner.deploy.runtime.codegen.live_blocks import LiveBlocks
from ws_learner.deploy.runtime.codegen.spec import MOST_TILE_INPUTS, Activation, Spec

__all__ = ["candidates", "is_known", "largest_block"]

_SHAPES = ((16, 4), (4, 4), (1, 4), (4, 1), (2, 1), (1, 1))
_FLOAT = ((1, 1), (2, 1), (4, 1), (16, 4))
_BYTES = ((1, 4), (4, 4), (16, 4))
_WHOLE = 0.97  # of a pattern's blocks: training leaves a few zeros inside
_USEFUL = 0.5  # fewer nonzeros than this in the stored blocks, and smaller blocks win
_FEW_TOKENS = 8
_NEARLY_DENSE = 0.1  # share of nonzeros


def largest_block(weight: npt.NDArray[np.generic] | LiveBlocks) -> str:
    """The largest block shape, outputs x inputs, that the zeros of (N, K) come in, or `dense`.

    Blocks that reach over the edge of the matrix count as far as they lie within.
    """
    live = weight if isinstance(weight, LiveBlocks) else LiveBlocks(weight)
    if live.nonzero >= _WHOLE * (live.shape[0] * live.shape[1]):
        return "dense"
    for rows, inputs in _SHAPES[:-1]:
        if live.fill(rows, inputs, padding=False) >= _WHOLE:
            return f"{rows}x{inputs}"
    return "unstructured"


def is_known(spec: Spec) -> bool:
    """Whether `candidates` could name this kernel on some processor; a file might name another."""
    isa = ISAS.get(spec.isa)
    shapes = _FLOAT if spec.dot == "fma" else _BYTES
    if isa is None or spec.dot not in {"fma", isa.dot} or (isa.dot == "amx") != (spec.dot == "amx"):
        return False
    if (spec.rows, spec.inputs) not in shapes or spec.activation not in get_args(Activation):
        return False
    if spec.layout == "images" and spec.dot == "amx":
        return False
    made: list[Spec] = []
    for tokens in (1, *(isa.lanes * vectors for vectors in (1, 2, 4, 8))):
        if spec.dot == "amx":
            made += _tile_specs(isa, tokens=tokens)
        else:
            made += _vector_specs(isa, spec.dot, spec.rows, spec.inputs, tokens=tokens)
    layout = "tokens" if spec.layout in ("channels", "images") else spec.layout
    return replace(spec, activation="none", layout=layout) in made


def candidates(
    weight: npt.NDArray[np.generic] | LiveBlocks,
    *,
    tokens: int,
    channels: bool = False,
    fp32: bool = True,
    int8: bool = False,
    isas: tuple[Isa, ...] | None = None,
) -> list[Spec]:
    """Kernels to try, without activation.

    Smaller blocks are left out where larger ones hold next to no zeros, and floats where bytes do
    and four of them are multiplied at a time: they store and multiply more for the same outputs.

    Args:
        weight: (N, K), or its live blocks.
        tokens: Rows (or positions) of an input.
        channels: Whether inputs come as (K, S).
        fp32: Whether float kernels are wanted.
        int8: Whether byte kernels are wanted.
        isas: Instruction sets, best first; those of this processor by default.
    """
    isas = usable_isas() if isas is None else isas
    vectors = [isa for isa in isas if isa.dot != "amx"][:1]
    live = weight if isinstance(weight, LiveBlocks) else LiveBlocks(weight)
    few = tokens <= _FEW_TOKENS and not channels
    many = not channels and live.density >= _NEARLY_DENSE
    fitting = _fitting(live, _BYTES, always=few or many) if int8 else []
    whole = any(live.fill(*shape) >= _WHOLE for shape in fitting)
    found: list[Spec] = []
    for isa in vectors:
        if fp32 and not (whole and isa.dot == "vnni"):
            shapes = _fitting(live, _FLOAT, always=few)
            found += [k for s in shapes for k in _vector_specs(isa, "fma", *s, tokens=tokens)]
    for isa in vectors:
        found += [k for s in fitting for k in _vector_specs(isa, isa.dot, *s, tokens=tokens)]
    tiles = bool(isas) and isas[0].dot == "amx" and live.shape[1] <= MOST_TILE_INPUTS
    if (16, 4) in fitting and tiles:
        found += list(_tile_specs(isas[0], tokens=tokens))
    if channels:
        found = [replace(k, layout="channels") for k in found if k.layout != "vector"]
    return list(dict.fromkeys(found))


def _fitting(
    live: LiveBlocks, shapes: tuple[tuple[int, int], ...], *, always: bool
) -> list[tuple[int, int]]:
    """Shapes that store few zeros, from the largest of one or four outputs that stores hardly any.

    Sixteen outputs are no reason to leave out four: their registers differ. They are `always` there
    where storing zeros like other numbers may be quickest: of linear layers, for few tokens, and in
    bytes unless nearly all is zero.
    """
    fill = {shape: live.fill(*shape) for shape in shapes}
    kept = [s for s in shapes if fill[s] >= _USEFUL or (always and s[0] == 16)]
    fours = [shape for shape in kept if shape[0] == 4 and fill[shape] >= _WHOLE]
    return [shape for shape in kept if shape[0] >= (4 if fours else 1)]


def _vector_specs(isa: Isa, dot: str, rows: int, inputs: int, *, tokens: int) -> Iterator[Spec]:
    most = max(1, -(-tokens // isa.lanes))
    if rows == 16:
        shapes = [(4, 4), (8, 2), (8, 1)] if isa.registers == 32 else [(4, 2)]
    elif rows == 4:
        shapes = [(4, 4), (4, 2)] if isa.registers == 32 else [(4, 2)]
    else:
        shapes = [(rows, 4)]
    for group, vectors in shapes:
        yield Spec(
            isa=isa.name,
            dot=dot,  # type: ignore[arg-type]
            rows=rows,
            inputs=inputs,
            group=group,
            vectors=min(vectors, 1 << (most - 1).bit_length()),
        )
    if rows == 16 and tokens <= _FEW_TOKENS:
        yield Spec(
            isa=isa.name,
            dot=dot,  # type: ignore[arg-type]
            rows=16,
            inputs=inputs,
            group=16,
            vectors=1,
            layout="vector",
        )


def _tile_specs(isa: Isa, *, tokens: int) -> Iterator[Spec]:
    for vectors in (4, 2, 1):
        if tokens > 16 * (vectors - 1) or vectors == 1:
            yield Spec(isa=isa.name, dot="amx", rows=16, inputs=4, group=16, vectors=vectors)
