"""From the densities a proposer wants to the profile as scored, and slopes back through it.

A common factor brings the densities onto the budget (water filling within the layers' bounds), a
second one to the milder budget at which profiles are scored. A slope at the scored profile comes
back through both: each factor answers to every layer in proportion to its kept weights, so the
projection is *oblique*. (The orthogonal one pulls towards the uniform profile.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from envs import (
    AllocationProblem,
    FloatArray,
    IntArray,
    as_scored,
    log_densities,
    project,
    water_fill,
)

__all__ = ["Settled", "Settling", "scored_point", "whole_profile"]

_EDGE = 1e-9
_HALVINGS = 48


@dataclass(frozen=True, kw_only=True, eq=False)
class Settled:
    """Profiles on the budget.

    Attributes:
        executed: (..., L) ln densities on the budget, within the bounds.
        scored: (..., L) ln densities at the milder budget.
        moves: (..., L) where the first factor moved the layer, not a bound.
        milder_moves: (..., L) where the second one did.
    """

    executed: FloatArray
    scored: FloatArray
    moves: FloatArray
    milder_moves: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Settling:
    """The budget of one target, or of M targets for M profiles.

    Attributes:
        sizes: (L,) number of weights.
        least: (L,) or (M, L) least weights kept.
        most: (L,) or (M, L) most weights kept.
        kept: (1,) or (M, 1) weights kept in all.
        milder: (1,) or (M, 1) weights kept in all by the profile that is scored.
    """

    sizes: FloatArray
    least: FloatArray
    most: FloatArray
    kept: FloatArray
    milder: FloatArray

    @classmethod
    def of(cls, problem: AllocationProblem) -> Self:
        """The budget of a problem."""
        sizes = problem.weights
        total = int(sizes.sum())
        kept = total - problem.budget
        return cls(
            sizes=sizes.astype(np.float64),
            least=(sizes - problem.upper).astype(np.float64),
            most=(sizes - problem.lower).astype(np.float64),
            kept=np.array([kept], np.float64),
            milder=np.array([round(total * (kept / total) ** problem.score_power)], np.float64),
        )

    @classmethod
    def stack(cls, budgets: Sequence[Settling]) -> Self:
        """The budgets of M targets of one network together."""
        return cls(
            sizes=budgets[0].sizes,
            least=np.stack([one.least for one in budgets]),
            most=np.stack([one.most for one in budgets]),
            kept=np.stack([one.kept for one in budgets]),
            milder=np.stack([one.milder for one in budgets]),
        )

    def rows(self, rows: IntArray) -> Self:
        """The budgets of some of the targets of a stack, in this order."""
        return dataclasses.replace(
            self,
            least=self.least[rows],
            most=self.most[rows],
            kept=self.kept[rows],
            milder=self.milder[rows],
        )

    def __call__(self, wanted: FloatArray) -> Settled:
        """Settle wanted ln densities (..., L)."""
        kept = self.sizes * np.exp(wanted)
        kept = water_fill(
            kept, total=self.kept, least=self.least, most=self.most, halvings=_HALVINGS
        )
        moves = (kept > self.least * (1 + _EDGE)) & (kept < self.most * (1 - _EDGE))
        kept = np.maximum(kept, 0.5)
        milder = water_fill(
            kept, total=self.milder, least=kept, most=self.sizes, halvings=_HALVINGS
        )
        return Settled(
            executed=np.log(kept / self.sizes),
            scored=np.log(milder / self.sizes),
            moves=moves.astype(np.float64),
            milder_moves=(milder < self.sizes * (1 - _EDGE)).astype(np.float64),
        )

    def back(self, settled: Settled, slopes: FloatArray) -> FloatArray:
        """Slopes (..., L) by the wanted ln densities, from those by the scored ones."""
        slopes = _oblique(slopes, settled.milder_moves, self.sizes * np.exp(settled.scored))
        return _oblique(slopes, settled.moves, self.sizes * np.exp(settled.executed))


def _oblique(slopes: FloatArray, moves: FloatArray, kept: FloatArray) -> FloatArray:
    whole = np.maximum((kept * moves).sum(-1, keepdims=True), 1e-12)
    common = (slopes * moves).sum(-1, keepdims=True)
    answer: FloatArray = moves * (slopes - common * kept / whole)
    return answer


def scored_point(zeros: IntArray, problem: AllocationProblem) -> FloatArray:
    """(L,) ln densities of the profile that is scored for `zeros`."""
    sizes = problem.weights
    return log_densities(as_scored(zeros, sizes, power=problem.score_power), sizes)


def whole_profile(wanted: FloatArray, problem: AllocationProblem) -> IntArray:
    """(L,) zeros nearest to wanted ln densities, exactly on the budget."""
    sizes = problem.weights
    return project(
        sizes * (1 - np.exp(np.minimum(wanted, 0.0))),
        budget=problem.budget,
        lower=problem.lower,
        upper=problem.upper,
        weights=sizes,
    )
