"""Kernel specification: the settings that code is generated for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ws_learner.core import check_settings

__all__ = ["JOB", "MOST_TILE_INPUTS", "SLOTS", "STEP", "Activation", "Spec"]

Activation = Literal["none", "relu", "gelu"]

SLOTS = (
    *("values", "indices", "pointers", "scale", "bias", "correction", "quantisation"),
    *("outputs", "inputs", "chunk", "panel", "stride", "tile_bytes", "target_bytes"),
)
"""The numbers (addresses among them) of the table that a kernel is called with, in order."""

JOB = (
    *("count", "parts", "each", "block", "steps", "x", "y", "memory", "room"),
    *("number", "team", "ask_number", "ask_team", "positions", "x_bytes", "y_bytes"),
)
"""Tokens; parts, tokens of each and of a block; kernels; addresses; memory of each part; which
thread this is of how many, or the addresses of functions that know. If `positions` is not 0, images
are counted instead of tokens, blocks are of one, and so many bytes apart."""

STEP = ("function", "table", "offset", "unit", "bytes")
"""Addresses; where in a part's memory its output lies, so many bytes for each unit of tokens."""

MOST_TILE_INPUTS = 4 * 65536
"""Inputs of a layer that AMX kernels take: they go through all of them in one panel."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One generated function.

    Attributes:
        isa: Instruction set, a key of `cpu.ISAS`.
        dot: How 32-bit lanes are multiplied: `fma` floats, `vnni` u8 x s8 in fours, `madd` the
            same widened to 16 bits in twos, `amx` tiles of bytes.
        rows: Outputs of a block.
        inputs: Inputs of a block.
        group: Outputs accumulated together in registers; divides `rows`.
        vectors: Vectors of tokens in registers.
        layout: `tokens`: (T, K) to (T, N); `channels`: (K, S) to (N, S); `vector`: as `tokens`,
            one token after the other with outputs in the lanes; `images`: (C, H, W) to
            (N, H', W') without im2col, see `image_kernel`.
        source: Type of the input; `u8` is quantised already, and `tile` laid out as well, by a
            kernel of as many lanes and vectors.
        result: Type of the output; `i32` is the bare integer sum, `tile` what the next kernel
            multiplies.
        activation: Applied to the output.
    """

    isa: str
    dot: Literal["fma", "vnni", "madd", "amx"]
    rows: int
    inputs: int
    group: int
    vectors: int
    layout: Literal["tokens", "channels", "vector", "images"] = "tokens"
    source: Literal["f32", "u8", "tile"] = "f32"
    result: Literal["f32", "u8", "i32", "tile"] = "f32"
    activation: Activation = "none"

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def packed(self) -> int:
        """Inputs in one 32-bit lane."""
        return {"fma": 1, "madd": 2}.get(self.dot, 4)

    @property
    def steps(self) -> int:
        """32-bit rows of the tile that one block reads."""
        return self.inputs // self.packed

    @property
    def int8(self) -> bool:
        """Whether products are of integers."""
        return self.dot != "fma"

    @property
    def name(self) -> str:
        """A name for the function and for reports, such as `int8 16x4 amx`."""
        return f"{'int8' if self.int8 else 'fp32'} {self.rows}x{self.inputs} {self.dot}"
