"""Score grids: which weights of a matrix share a movement score."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ws_learner.core import UserError
from ws_learner.pruning.patterns.laid_out import LaidOut, refuse_layout
from ws_learner.pruning.patterns.pattern import (
    BlockPattern,
    ChannelPattern,
    HeadPattern,
    Pattern,
    Unstructured,
)

__all__ = ["ScoreGrid", "grid_of"]


@dataclass(frozen=True, kw_only=True)
class ScoreGrid:
    """A weight of shape (R, C) cut into blocks of `rows` x `columns`, one score each.

    The bias of that weight has a score for each row of blocks, R / rows (a column pattern: one for
    the whole bias). A weight with more dimensions is cut into single values only.

    Attributes:
        shape: Of the weight or bias.
        rows: Height of a block, divides R.
        columns: Width of a block, divides C.
    """

    shape: tuple[int, ...]
    rows: int = 1
    columns: int = 1

    def __post_init__(self) -> None:
        if self.size > 1 and len(self.shape) > 2:
            raise UserError(
                f"movement: a weight of shape {self.shape} is no matrix; only single weights of it "
                "can have scores (pattern unstructured)"
            )
        parts = zip(self.shape, (self.rows, self.columns), strict=False)
        for axis, (length, part) in enumerate(parts):
            if part < 1 or length % part:
                name = "rc"[axis]
                raise UserError(
                    f"movement: {name}: {part} is not a factor of dim axis {axis}, which has "
                    f"{length} entries; choose a block that divides the shape {self.shape}"
                )

    @property
    def size(self) -> int:
        """Weights that share one score."""
        return self.rows * self.columns

    @property
    def score_shape(self) -> tuple[int, ...]:
        """Shape of the scores."""
        parts = (self.rows, self.columns, *(1 for _ in self.shape[2:]))
        return tuple(length // part for length, part in zip(self.shape, parts, strict=False))

    @property
    def scores(self) -> int:
        """Number of scores."""
        return math.prod(self.score_shape)

    def bias(self, length: int) -> ScoreGrid:
        """The grid of the bias (length,) that belongs to this weight."""
        return ScoreGrid(shape=(length,), rows=self.rows)

    def summed(self, values: Tensor) -> Tensor:
        """Sum `values`, of the weight's shape, over each block; of the scores' shape."""
        if self.size == 1:
            return values
        if len(self.shape) == 1:
            return values.view(-1, self.rows).sum(1)
        if self.columns == self.shape[1] and self.rows == 1:
            return values.sum(1, keepdim=True)
        high, wide = self.score_shape
        return values.reshape(high, self.rows, wide, self.columns).sum(3).sum(1)

    def spread(self, scores: Tensor) -> Tensor:
        """Repeat each score over its block; of the weight's shape, perhaps a view."""
        if self.size == 1:
            return scores
        if len(self.shape) == 1:
            return scores[:, None].expand(-1, self.rows).reshape(self.shape)
        high, wide = self.score_shape
        if (high, wide) in ((self.shape[0], 1), (1, self.shape[1])):
            return scores.expand(self.shape)
        grid = scores.view(high, 1, wide, 1).expand(high, self.rows, wide, self.columns)
        return grid.reshape(self.shape)


def grid_of(pattern: Pattern, shape: tuple[int, ...]) -> ScoreGrid:
    """The grid that a pattern makes of a weight.

    Raises:
        UserError: The pattern is N:M or one for convolutions, or a block does not divide the
            shape; or outputs are not the weight's first axis.
    """
    if isinstance(pattern, LaidOut):
        refuse_layout("movement", "a weight", pattern, shape)
    if isinstance(pattern, Unstructured):
        return ScoreGrid(shape=shape)
    if isinstance(pattern, BlockPattern):
        return ScoreGrid(shape=shape, rows=pattern.outputs, columns=pattern.inputs)
    if isinstance(pattern, ChannelPattern) and len(shape) == 2:
        rows, columns = (1, shape[1]) if pattern.axis == "outputs" else (shape[0], 1)
        return ScoreGrid(shape=shape, rows=rows, columns=columns)
    if isinstance(pattern, HeadPattern) and pattern.heads and len(shape) == 2:
        along = shape[pattern.axis == "inputs"] // pattern.heads // pattern.parts
        rows, columns = (along, shape[1]) if pattern.axis == "outputs" else (shape[0], along)
        return ScoreGrid(shape=shape, rows=rows, columns=columns)
    raise UserError(
        f"`pattern` {pattern}: movement has scores for unstructured, blocks such as 32x32, "
        f"1xchannel, channelx1, mha and units of matrices, not for this one on a shape {shape}"
    )
