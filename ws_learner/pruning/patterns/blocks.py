"""Patterns whose units are rectangles of a matrix: blocks, channels, attention heads."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.core import UserError, check_choice, check_settings
from ws_learner.pruning.patterns.group_base import (
    GroupedPattern,
    PoolName,
    from_rows,
    geometry,
    to_rows,
)
from ws_learner.pruning.patterns.unit_counts import Classes, merged

__all__ = ["Axis", "BlockPattern", "ChannelPattern", "HeadPattern", "UnitPattern"]

Axis = Literal["outputs", "inputs"]


class _Tiles(GroupedPattern):
    """Rectangles of a matrix that holds the weight's values in some order."""

    @abstractmethod
    def _tile(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of a rectangle."""

    def _matrix_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        outputs, taps, inputs = geometry(shape)
        return outputs, taps * inputs

    def _matrix(self, values: Tensor) -> Tensor:
        return to_rows(values)

    def _unmatrix(self, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        return from_rows(matrix, shape)

    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`."""
        (rows, columns), (height, width) = self._matrix_shape(shape), self._tile(shape)
        return rows % height == 0 and columns % width == 0

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`."""
        (rows, columns), (height, width) = self._matrix_shape(shape), self._tile(shape)
        return merged(
            (high * wide, down * along)
            for high, down in ((height, rows // height), (rows % height, 1))
            for wide, along in ((width, columns // width), (columns % width, 1))
        )

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        (rows, columns), (height, width) = self._matrix_shape(shape), self._tile(shape)
        return (_lengths(rows, height)[:, None] * _lengths(columns, width)).reshape(-1)

    def pooled(self, score: Tensor, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`."""
        check_choice(pool, PoolName, name="pool")
        shape = tuple(score.shape)
        tiles = self._tiles(score.detach(), padding=-math.inf if pool == "max" else 0.0)
        if pool == "max":
            return tiles.amax((1, 3)).reshape(-1)
        rows = tiles.sum(1)
        sums = (rows.sum(2) if rows.shape[2] > 1 else rows).reshape(-1)
        if pool == "sum":
            return sums
        size = math.prod(self._tile(shape))
        return sums / (size if self.divides(shape) else self.sizes(shape).to(sums.device))

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """See `Pattern`."""
        return self.spread(keep, tuple(score.shape))

    def norms(self, weight: Tensor) -> Tensor:
        """See `Pattern`."""
        tiles = self._tiles(weight.detach(), padding=0.0)
        return self.spread(torch.linalg.vector_norm(tiles, dim=(1, 3)), tuple(weight.shape))

    def _tiles(self, values: Tensor, *, padding: float) -> Tensor:
        """(rows of tiles, height, columns of tiles, width)."""
        matrix, (height, width) = self._matrix(values), self._tile(tuple(values.shape))
        below, right = -matrix.shape[0] % height, -matrix.shape[1] % width
        if below or right:
            matrix = functional.pad(matrix, (0, right, 0, below), value=padding)
        return matrix.reshape(matrix.shape[0] // height, height, matrix.shape[1] // width, width)

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        (rows, columns), (height, width) = self._matrix_shape(shape), self._tile(shape)
        down, along = -(-rows // height), -(-columns // width)
        grid = units.reshape(down, 1, along, 1).expand(down, height, along, width)
        matrix = grid.reshape(down * height, along * width)[:rows, :columns]
        return self._unmatrix(matrix, shape)


def _lengths(whole: int, part: int) -> Tensor:
    """Lengths of the pieces that `whole` is cut into."""
    lengths = torch.full((-(-whole // part),), part, dtype=torch.int64)
    if whole % part:
        lengths[-1] = whole % part
    return lengths


@dataclass(frozen=True)
class BlockPattern(_Tiles):
    """Blocks of outputs x inputs in the matrix (O, taps x I): "4x1" is 4 outputs, one input.

    In a grouped convolution the matrix is the one that is stored: neighbouring outputs share a
    block, whichever group they are in.

    Attributes:
        outputs: Height, from 1.
        inputs: Width, from 1.
    """

    outputs: int
    inputs: int

    def __post_init__(self) -> None:
        if self.outputs < 1 or self.inputs < 1:
            raise ValueError(f"a block of {self.outputs}x{self.inputs} has no weights")

    def __str__(self) -> str:
        return f"{self.outputs}x{self.inputs}"

    def transposed(self) -> BlockPattern:
        """The block of a source that names inputs first: DLRM's "4x16" is our 16x4."""
        return BlockPattern(self.inputs, self.outputs)

    def _tile(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return self.outputs, self.inputs


@dataclass(frozen=True)
class ChannelPattern(_Tiles):
    """Whole channels: all weights of one output (a filter), or all that read one input.

    Attributes:
        axis: `outputs` is spelled 1xchannel, `inputs` is spelled channelx1.
    """

    axis: Axis

    def __post_init__(self) -> None:
        check_settings(self)

    def __str__(self) -> str:
        return "1xchannel" if self.axis == "outputs" else "channelx1"

    def _tile(self, shape: tuple[int, ...]) -> tuple[int, int]:
        rows, columns = self._matrix_shape(shape)
        return (1, columns) if self.axis == "outputs" else (rows, 1)

    def _matrix_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        outputs, taps, inputs = geometry(shape)
        return (outputs, taps * inputs) if self.axis == "outputs" else (outputs * taps, inputs)

    def _matrix(self, values: Tensor) -> Tensor:
        return to_rows(values).reshape(self._matrix_shape(tuple(values.shape)))

    def _unmatrix(self, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        return from_rows(matrix.reshape(shape[0], -1), shape)


@dataclass(frozen=True)
class HeadPattern(_Tiles):
    """Attention heads: equal slices of the outputs of q, k, v, or of the inputs of o.

    `pruning/layers/attention_heads.py` fills in the numbers from a network; without them only
    `str` works.

    Attributes:
        heads: Number of heads; 0 = not known yet.
        axis: Where the heads are.
        parts: Projections stacked along the outputs, 3 where q, k and v are one layer; a head is
            a slice of each.
    """

    heads: int = 0
    axis: Axis = "outputs"
    parts: int = 1

    def __post_init__(self) -> None:
        check_settings(self)

    def __str__(self) -> str:
        return "mha"

    def _tile(self, shape: tuple[int, ...]) -> tuple[int, int]:
        rows, columns = self._matrix_shape(shape)
        across = rows if self.axis == "outputs" else columns
        if not self.heads or across % self.heads:
            known = f"{self.heads} heads do not divide" if self.heads else "unknown heads in"
            raise UserError(
                f"`pattern` mha: {known} {across} {self.axis} of a weight of shape {shape}; "
                "leave this layer out with `exclude`"
            )
        part = across // self.heads
        return (part, columns) if self.axis == "outputs" else (rows, part)

    def _matrix_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        outputs, taps, inputs = geometry(shape)
        if self.axis == "inputs":
            return outputs * taps, inputs
        return outputs // self.parts, self.parts * taps * inputs

    def _matrix(self, values: Tensor) -> Tensor:
        if self.axis == "inputs":
            return to_rows(values).reshape(self._matrix_shape(tuple(values.shape)))
        stacked = to_rows(values).reshape(self.parts, values.shape[0] // self.parts, -1)
        return stacked.movedim(0, 1).reshape(self._matrix_shape(tuple(values.shape)))

    def _unmatrix(self, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        if self.axis == "inputs":
            return from_rows(matrix.reshape(shape[0], -1), shape)
        side_by_side = matrix.reshape(matrix.shape[0], self.parts, -1)
        return from_rows(side_by_side.movedim(1, 0).reshape(shape[0], -1), shape)


@dataclass(frozen=True)
class UnitPattern(HeadPattern):
    """Attention heads and feed-forward neurons; resolved per weight from the network.

    `pruning/layers/unit_groups.py` replaces it by groups of `HeadPattern` and `ChannelPattern`.
    """

    def __str__(self) -> str:
        return "units"
