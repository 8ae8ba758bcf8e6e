"""Layouts: which axis of a stored weight holds its outputs, and which its inputs.

Patterns, costs, Gram matrices and the regression look at every weight as (O, I, *kernel), outputs
first: a row for each output. A layout says how to get there and back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Layout"]

_AXES = ("oi", "io", "eoi", "eio", "")


@dataclass(frozen=True)
class Layout:
    """Order of the axes of a stored weight; axes of a kernel come last.

    Attributes:
        axes: `oi`: (outputs, inputs, *kernel), as in Linear and convolutions. `io`: (inputs,
            outputs, *kernel), as in transposed convolutions. `eoi`, `eio`: a stack of such
            matrices, one for each expert. Empty: not known; taken as stored, as `oi`.
        groups: Equal blocks of outputs that read different inputs: the groups of a convolution,
            the experts of a stack, or q, k and v of an attention.
    """

    axes: str = "oi"
    groups: int = 1

    def __post_init__(self) -> None:
        if self.axes not in _AXES:
            raise ValueError(f"layout {self.axes!r}: must be one of {', '.join(_AXES[:-1])}")

    @property
    def known(self) -> bool:
        """Whether outputs and inputs are known."""
        return bool(self.axes)

    @property
    def outputs_first(self) -> bool:
        """Whether the weight is stored as (O, I, *kernel)."""
        return self.axes in ("oi", "")

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """(O, I, *kernel) of a weight of the shape `stored`."""
        if self.outputs_first:
            return stored
        groups, first, second, kernel = self._split(stored)
        outputs, inputs = (first, second) if self.axes == "eoi" else (second, first)
        return (groups * outputs, inputs, *kernel)

    def width(self, stored: tuple[int, ...]) -> int:
        """Weights of one output."""
        return math.prod(self.shape(stored)[1:])

    def rows(self, values: Tensor) -> Tensor:
        """`values`, stored, as (O, I, *kernel)."""
        if self.outputs_first:
            return values
        shape = tuple(values.shape)
        groups, first, second, kernel = self._split(shape)
        apart = values.reshape(groups, first, second, *kernel)
        if self.axes != "eoi":
            apart = apart.transpose(1, 2)
        return apart.reshape(self.shape(shape))

    def stored(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Undo `rows`: (O, I, *kernel) as the shape that is stored."""
        if self.outputs_first:
            return rows
        groups, first, second, kernel = self._split(shape)
        if self.axes == "eoi":
            return rows.reshape(shape)
        return rows.reshape(groups, second, first, *kernel).transpose(1, 2).reshape(shape)

    def place(self, index: Tensor, stored: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Row and column, in the matrix (O, I x kernel), of entries of the stored weight.

        Args:
            index: Flat row-major positions in the stored weight.
            stored: Its shape.
        """
        width = self.width(stored)
        if self.outputs_first or self.axes == "eoi":
            return index // width, index % width
        _, inputs, outputs, kernel = self._split(stored)
        taps = math.prod(kernel)
        group, rest = index // (inputs * outputs * taps), index % (inputs * outputs * taps)
        row = group * outputs + rest // taps % outputs
        return row, rest // (taps * outputs) * taps + rest % taps

    def _split(self, stored: tuple[int, ...]) -> tuple[int, int, int, tuple[int, ...]]:
        """(groups, first axis, second axis, kernel) of one group's weight."""
        if self.axes.startswith("e"):
            return stored[0], stored[1], stored[2], ()
        return self.groups, stored[0] // self.groups, stored[1], stored[2:]
