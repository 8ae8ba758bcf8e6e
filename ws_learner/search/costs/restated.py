"""The allocation problem in ticks of cost: its context and its evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import nn

from envs import FloatArray, IntArray, project
from ws_learner.core import LayerChoice
from ws_learner.pruning import PatternPlan
from ws_learner.search.closed_form import CLOSED_FORM
from ws_learner.search.context import AllocationContext, Restatement
from ws_learner.search.costs.axes import CostAxes
from ws_learner.search.costs.settle import Limit, settle
from ws_learner.search.costs.space import Profile, within_limits
from ws_learner.search.costs.tick_evaluator import TickEvaluator
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.pool_protocol import Evaluator

__all__ = ["RestatedContext", "RestatedEvaluator"]

_BISECTIONS = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class RestatedContext:
    """Makes the context of any target in ticks.

    Attributes:
        axes: What zeros save.
        base: The context in weights; its budget is not used.
        unit: The unit of the costs.
        plan: Whole units of the pattern.
        choice: The choice that a number of zeros is.
        rollouts: Builds the evaluator of profiles of zeros, as they are.
    """

    unit: str
    axes: CostAxes
    base: AllocationContext
    plan: PatternPlan
    choice: Callable[[int], LayerChoice]
    rollouts: Callable[[], RolloutEvaluator]

    @property
    def sizes(self) -> IntArray:
        """See `CostSpace`."""
        return self.axes.sizes

    @property
    def tick(self) -> float:
        """See `CostSpace`."""
        return self.axes.tick

    @property
    def free(self) -> int:
        """See `CostSpace`."""
        return self.axes.free

    def evaluator(self, *, power: float) -> Evaluator:
        """See `CostSpace`."""
        return RestatedEvaluator(self.rollouts(), self.axes, context=self.at, power=power)

    def cheapest(self, ticks: IntArray) -> Profile:
        """See `CostSpace`."""
        whole = np.ceil(self.axes.zeros(ticks) - 1e-6).astype(np.int64)
        return tuple(self.choice(int(count)) for count in whole)

    def settle(self, ticks: IntArray, limits: Sequence[Limit]) -> Profile:
        """See `CostSpace`."""
        zeros = settle(
            self.axes.zeros(ticks),
            self.axes.layers,
            plan=self.plan,
            limits=limits,
            lower=self.base.lower,
            choice=self.choice,
        )
        return tuple(self.choice(int(count)) for count in zeros)

    def cheaper(self, profile: Profile, limits: Sequence[Limit]) -> Profile | None:
        """See `CostSpace`."""
        zeros = np.array([one.zeros for one in profile], dtype=np.int64)
        saved = np.floor(self.axes.saved(zeros) + 1e-6).astype(np.int64)
        return within_limits(self, np.clip(saved, *self.bounds), limits)

    def network(self, profile: Profile) -> nn.Module:
        """See `CostSpace`."""
        return self.rollouts().network(np.array([one.zeros for one in profile], dtype=np.int64))

    @cached_property
    def bounds(self) -> tuple[IntArray, IntArray]:
        """(L,) least and most ticks that each layer may save."""
        held = np.array([row.exempt for row in self.axes.rows])
        least = np.ceil(self.axes.saved(self.base.lower) - 1e-6).astype(np.int64)
        most = np.floor(self.axes.saved(self.base.upper) + 1e-6).astype(np.int64)
        most = np.minimum(np.where(held, 0, most), self.axes.sizes)
        return np.minimum(np.where(held, 0, least), most), most

    def at(self, share: float) -> AllocationContext:
        """The context of a share of all ticks that is saved."""
        lower, upper = self.bounds
        budget = round(share * int(self.axes.sizes.sum()))
        choices = self.base.choices
        return replace(
            self.base,
            layers=self.axes.rows,
            budget=budget,
            lower=lower,
            upper=upper,
            curves=lambda: self._curves(),
            own=lambda: self._own(),
            choices=None if choices is None else self._choices(choices),
            restated=Restatement(
                unit=self.unit,
                at=self.at,
                weightwise=lambda name: self._by_weights(name, budget),
                zeros=self.axes.whole,
                layers=self.axes.layers,
            ),
        )

    def _curves(self) -> tuple[FloatArray, FloatArray]:
        ratios, curves = self.axes.restate_curves(*self.base.curves())
        return ratios, curves

    def _own(self) -> tuple[FloatArray, FloatArray] | None:
        own = self.base.own()
        if own is None:
            return None
        densities, values = self.axes.restate_own(*own)
        return densities, values

    def _choices(self, counts: tuple[IntArray, ...]) -> tuple[IntArray, ...]:
        """Ticks saved by the few counts of each layer, as in N:M."""
        found = []
        for layer, own in enumerate(counts):
            axis = self.axes.counts[layer], self.axes.savings[layer]
            found.append(np.unique(np.floor(np.interp(own, *axis) + 1e-6).astype(np.int64)))
        return tuple(found)

    def _by_weights(self, name: str, budget: int) -> IntArray:
        """A protocol that ranks weights: at the least number of zeros that saves enough."""
        base, (lower, upper) = self.base, self.bounds
        least, most = int(base.lower.sum()), int(base.upper.sum())
        for _ in range(_BISECTIONS):
            if most - least <= 1:
                break
            middle = (least + most) // 2
            zeros = CLOSED_FORM[name](replace(base, budget=middle))
            enough = self.axes.saved(zeros).sum() >= budget
            least, most = (least, middle) if enough else (middle, most)
        ticks = self.axes.saved(CLOSED_FORM[name](replace(base, budget=most)))
        return project(
            np.clip(ticks, lower, upper),
            budget=budget,
            lower=lower,
            upper=upper,
            weights=self.axes.sizes,
        )


class RestatedEvaluator(TickEvaluator):
    """Scores profiles in ticks by the zeros that save them.

    Args:
        inner: Scores profiles of zeros.
        axes: What zeros save.
        context: See `TickEvaluator`, like `power`.
        power: Likewise.
    """

    def __init__(
        self,
        inner: RolloutEvaluator,
        axes: CostAxes,
        *,
        context: Callable[[float], AllocationContext] | None,
        power: float,
    ) -> None:
        super().__init__(inner, axes.rows, context=context, power=power)
        self._axes, self._checks = axes, inner.checked

    def placed(self, ticks: IntArray) -> IntArray:
        """(L,) zeros that save so much, in whole units of the pattern."""
        return self._checks(self._axes.whole(ticks))
