"""The allocation problem of ladders: joint choice of pattern, zeros and number format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import nn

from envs import FloatArray, IntArray
from ws_learner.core import LayerChoice, LayerCosts
from ws_learner.search.context import AllocationContext, Restatement
from ws_learner.search.costs.ladder import Ladders
from ws_learner.search.costs.settle import Limit
from ws_learner.search.costs.space import Profile
from ws_learner.search.costs.tick_evaluator import ScoresAsGiven, TickEvaluator
from ws_learner.search.rollout.pool_protocol import Evaluator

__all__ = ["LadderSpace"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LadderSpace:
    """A network's ladders as an allocation problem.

    Attributes:
        unit: The unit of the costs.
        ladders: The choices.
        scores: Scores profiles of choices.
        score_power: See `as_scored`.
    """

    unit: str
    ladders: Ladders
    scores: ScoresAsGiven
    score_power: float

    @property
    def sizes(self) -> IntArray:
        """See `CostSpace`."""
        return self.ladders.sizes

    @property
    def tick(self) -> float:
        """See `CostSpace`."""
        return self.ladders.tick

    @property
    def free(self) -> int:
        """See `CostSpace`."""
        return self.ladders.free

    @cached_property
    def bounds(self) -> tuple[IntArray, IntArray]:
        """See `CostSpace`; the ladders keep to the layers' least zeros."""
        least = [int(saved[0]) for saved in self.ladders.savings]
        return np.array(least, dtype=np.int64), self.ladders.most

    def at(self, share: float) -> AllocationContext:
        """See `CostSpace`."""
        lower, upper = self.bounds
        ladders = self.ladders
        return AllocationContext(
            layers=ladders.rows,
            budget=round(share * int(ladders.sizes.sum())),
            lower=lower,
            upper=upper,
            magnitudes=_no_magnitudes,
            curves=lambda: ladders.curves,
            own=lambda: ladders.own_curves,
            choices=ladders.savings,
            score_power=self.score_power,
            restated=Restatement(
                unit=self.unit,
                at=self.at,
                weightwise=None,
                zeros=lambda ticks: _zeros(ladders.choices(ladders.nearest(ticks))),
                layers=ladders.layers,
            ),
        )

    def evaluator(self, *, power: float) -> Evaluator:
        """See `CostSpace`."""
        return LadderEvaluator(self.scores, self, power=power)

    def cheapest(self, ticks: IntArray) -> Profile:
        """See `CostSpace`."""
        return self.ladders.choices(self.ladders.at_least(ticks))

    def settle(self, ticks: IntArray, limits: Sequence[Limit]) -> Profile:
        """See `CostSpace`: steps up are taken in the order of quality gained by budget spent."""
        ladders, places = self.ladders, self.ladders.at_least(ticks)
        spent = [limit.cost(ladders.choices(places)) for limit in limits]
        least = self.ladders.at_least(self.bounds[0])
        while True:
            steps = []
            for layer, place in enumerate(places.tolist()):
                if place <= least[layer]:
                    continue
                after = _after(ladders, layer, place, limits, spent)
                if after is not None:
                    share, gain = after
                    steps.append((gain / max(share, 1e-15), layer))
            if not steps:
                return ladders.choices(places)
            layer = max(steps)[1]
            old, new = ladders.rungs[layer][places[layer]], ladders.rungs[layer][places[layer] - 1]
            for number, limit in enumerate(limits):
                spent[number] += limit.costs.cost(layer, new) - limit.costs.cost(layer, old)
            places[layer] -= 1

    def cheaper(self, profile: Profile, limits: Sequence[Limit]) -> Profile | None:
        """See `CostSpace`: steps down in the order of budget saved by quality lost."""
        chosen = list(profile)
        while over := [one for one in limits if not one.holds(one.cost(chosen))]:
            steps = []
            for layer, old in enumerate(chosen):
                found = _below(self.ladders, layer, old, over[0].costs)
                if found is not None:
                    new, lost = found
                    saved = max(
                        (one.costs.cost(layer, old) - one.costs.cost(layer, new)) / one.most
                        for one in over
                    )
                    steps.append((lost / max(saved, 1e-15), layer, new))
            if not steps:
                return None
            _, layer, new = min(steps, key=lambda step: step[:2])
            chosen[layer] = new
        return tuple(chosen)

    def network(self, profile: Profile) -> nn.Module:
        """See `CostSpace`."""
        return self.scores.network(profile)


def _after(
    ladders: Ladders, layer: int, place: int, limits: Sequence[Limit], spent: Sequence[float]
) -> tuple[float, float] | None:
    """Share of a budget that a step up costs, and what it gains; None beyond a budget."""
    old, new = ladders.rungs[layer][place], ladders.rungs[layer][place - 1]
    share = 0.0
    for limit, before in zip(limits, spent, strict=True):
        more = limit.costs.cost(layer, new) - limit.costs.cost(layer, old)
        if not limit.holds(before + more):
            return None
        share = max(share, more / limit.most)
    loss = ladders.quality[layer]
    return share, float(loss[place] - loss[place - 1])


def _below(
    ladders: Ladders, layer: int, old: LayerChoice, costs: LayerCosts
) -> tuple[LayerChoice, float] | None:
    """The dearest rung that is cheaper than a choice, and what quality it loses; None: no rung."""
    price, (rungs, quality) = costs.cost(layer, old), (ladders.rungs[layer], ladders.quality[layer])
    for place, new in enumerate(rungs):
        if costs.cost(layer, new) < price:
            before = float(quality[place - 1]) if place else 0.0
            return new, max(float(quality[place]) - before, 0.0)
    return None


def _zeros(choices: Sequence[LayerChoice]) -> IntArray:
    return np.array([choice.zeros for choice in choices], dtype=np.int64)


def _no_magnitudes() -> Sequence[FloatArray]:
    raise RuntimeError("ladders rank no single weights")


class LadderEvaluator(TickEvaluator):
    """Scores profiles in ticks by the nearest rungs.

    Args:
        inner: Scores choices.
        space: The ladders.
        power: See `TickEvaluator`.
    """

    def __init__(self, inner: ScoresAsGiven, space: LadderSpace, *, power: float) -> None:
        super().__init__(inner, space.ladders.rows, context=space.at, power=power)
        self._ladders = space.ladders

    def placed(self, ticks: IntArray) -> IntArray:
        """(L,) places of the rungs nearest to (L,) ticks."""
        return self._ladders.nearest(ticks)

    def given(self, placed: IntArray) -> tuple[LayerChoice, ...]:
        """The choices at (L,) places."""
        return self._ladders.choices(placed)
