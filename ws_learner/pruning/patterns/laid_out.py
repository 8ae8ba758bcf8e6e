"""Patterns on weights that are not stored outputs first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

from torch import Tensor

from ws_learner.core import UserError
from ws_learner.pruning.patterns.group_base import PoolName
from ws_learner.pruning.patterns.layout import Layout
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.pattern import Pattern, Unstructured
from ws_learner.pruning.patterns.per_layer_nm import PerLayerNM
from ws_learner.pruning.patterns.slices import Slices
from ws_learner.pruning.patterns.unit_counts import Classes, Side

__all__ = ["LaidOut", "counts_of", "for_layout", "refuse_layout"]


@dataclass(frozen=True)
class LaidOut:
    """A pattern on the weight as (O, I, *kernel), whatever its layout; see `Pattern`.

    Attributes:
        pattern: The pattern.
        layout: Where outputs and inputs are in the stored weight.
    """

    pattern: Pattern
    layout: Layout

    def __str__(self) -> str:
        return str(self.pattern)

    def mask(self, score: Tensor, zeros: int, *, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`."""
        return self._stored(self.pattern.mask(self._rows(score), zeros, pool=pool), score)

    def feasible(self, shape: tuple[int, ...], zeros: int, *, side: Side = "nearest") -> int:
        """See `Pattern`."""
        return self.pattern.feasible(self.layout.shape(shape), zeros, side=side)

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`."""
        return self.pattern.classes(self.layout.shape(shape))

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        return self.pattern.sizes(self.layout.shape(shape))

    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`."""
        return self.pattern.divides(self.layout.shape(shape))

    def pooled(self, score: Tensor, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`."""
        return self.pattern.pooled(self._rows(score), pool)

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """See `Pattern`."""
        return self._stored(self.pattern.expand(keep, self._rows(score)), score)

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        rows = self.pattern.spread(units, self.layout.shape(shape))
        return self.layout.stored(rows, shape).contiguous()

    def norms(self, weight: Tensor) -> Tensor:
        """See `Pattern`."""
        return self._stored(self.pattern.norms(self._rows(weight)), weight)

    def _rows(self, values: Tensor) -> Tensor:
        return self.layout.rows(values).contiguous()

    def _stored(self, rows: Tensor, like: Tensor) -> Tensor:
        return self.layout.stored(rows, tuple(like.shape)).contiguous()


def for_layout(pattern: Pattern, layout: Layout, shape: tuple[int, ...]) -> Pattern:
    """The pattern for a stored weight of this layout and shape."""
    if layout.outputs_first or isinstance(pattern, Unstructured):
        return pattern
    plain = layout.axes == "io" and len(shape) == 2
    if isinstance(pattern, Slices) and len(set(pattern.parts)) == 1 and pattern.parts[0]:
        pattern = pattern.parts[0]  # groups along the inputs never reach into another slice
    if plain and isinstance(pattern, NM):
        return replace(pattern, columns=not pattern.columns)
    if plain and isinstance(pattern, PerLayerNM) and not pattern.chosen:
        return replace(pattern, columns=not pattern.columns)
    return LaidOut(pattern, layout)


def counts_of(pattern: Pattern | None, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The few counts of zeros that a pattern with an N per layer allows; None: it is another."""
    if isinstance(pattern, LaidOut):
        return counts_of(pattern.pattern, pattern.layout.shape(shape))
    return pattern.counts(shape) if isinstance(pattern, PerLayerNM) else None


def refuse_layout(method: str, name: str, pattern: LaidOut, shape: tuple[int, ...]) -> NoReturn:
    """Refuse a pattern that a method cannot train in this layout.

    Raises:
        UserError: Always.
    """
    axes = " ".join({"o": "outputs", "i": "inputs", "e": "experts"}[a] for a in pattern.layout.axes)
    raise UserError(
        f"`pattern` {pattern}: {method} needs the outputs on a weight's first axis; {name} of "
        f"shape {shape} has {axes}. Use the method gradual, leave the weight out with `exclude`, "
        "or prune single weights (pattern unstructured)"
    )
