"""Equal slices of one weight with an N:M pattern each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ws_learner.pruning.patterns.group_base import GroupedPattern, PoolName
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.unit_counts import Classes, merged

__all__ = ["Slices"]


@dataclass(frozen=True)
class Slices(GroupedPattern):
    """Equal slices of a weight's outputs with an N:M pattern each, or none: q, k, v in one weight.

    Groups never reach from one slice into the next.

    Attributes:
        parts: The slices in order; None stays dense.
    """

    parts: tuple[NM | None, ...]

    def __str__(self) -> str:
        return "/".join("dense" if part is None else str(part) for part in self.parts)

    def rows(self, outputs: int) -> list[slice]:
        """Outputs of each slice.

        Raises:
            ValueError: They cannot be divided evenly.
        """
        if outputs % len(self.parts):
            raise ValueError(f"{outputs} outputs are no {len(self.parts)} equal slices")
        step = outputs // len(self.parts)
        return [slice(start, start + step) for start in range(0, outputs, step)]

    def _each(self, shape: tuple[int, ...]) -> Iterator[tuple[NM, slice, tuple[int, ...]]]:
        """Pattern, outputs and shape of each slice that has a pattern."""
        for part, rows in zip(self.parts, self.rows(shape[0]), strict=True):
            if part is not None:
                yield part, rows, (rows.stop - rows.start, *shape[1:])

    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`."""
        return all(part.divides(own) for part, _, own in self._each(shape))

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`."""
        return merged(pair for part, _, own in self._each(shape) for pair in part.classes(own))

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        return torch.cat([part.sizes(own) for part, _, own in self._each(shape)])

    def pooled(self, score: Tensor, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`."""
        each = self._each(tuple(score.shape))
        return torch.cat([part.pooled(score[rows], pool) for part, rows, _ in each])

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """See `Pattern`."""
        mask = torch.ones_like(score, dtype=torch.bool)
        for part, rows, own in self._each(tuple(score.shape)):
            units, keep = keep[: len(part.sizes(own))], keep[len(part.sizes(own)) :]
            mask[rows] = part.expand(units, score[rows])
        return mask

    def whole_mask(self, score: Tensor) -> Tensor:
        """The mask with every group pruned; of the score's shape, True = kept."""
        mask = torch.ones_like(score, dtype=torch.bool)
        for part, rows, _ in self._each(tuple(score.shape)):
            mask[rows] = part.whole_mask(score[rows])
        return mask

    def norms(self, weight: Tensor) -> Tensor:
        """See `Pattern`: 0 where there is no pattern."""
        norms = torch.zeros_like(weight)
        for part, rows, _ in self._each(tuple(weight.shape)):
            norms[rows] = part.norms(weight[rows])
        return norms

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`: 0 where there is no pattern."""
        values = torch.zeros(shape, dtype=units.dtype, device=units.device)
        for part, rows, own in self._each(shape):
            mine, units = units[: len(part.sizes(own))], units[len(part.sizes(own)) :]
            values[rows] = part.spread(mine, own)
        return values
