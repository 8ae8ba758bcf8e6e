"""The allocation problem of ladders: joint choice of pattern, zeros and number format."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from torch import nn

from envs import FloatArray, IntArray, Score, as_scored
from ws_learner.config import WeightSparseConfig
from ws_learner.core import LayerChoice
from ws_learner.data import Split
from ws_learner.search.context import AllocationContext, Restatement
from ws_learner.search.costs.ladder import Ladders
from ws_learner.search.costs.settle import Limit
from ws_learner.search.costs.space import Profile
from ws_learner.search.rollout.pool_protocol import Evaluator
from ws_learner.training import Loss, Metric

__all__ = ["LadderSpace", "ScoresChoices"]


class ScoresChoices(Protocol):
    """Scores profiles given as one choice per layer."""

    @property
    def dense(self) -> nn.Module:
        """The dense network."""

    @property
    def loss(self) -> Loss:
        """Task loss."""

    @property
    def metric(self) -> Metric:
        """Score of each example."""

    def rewarded(self) -> str:
        """What the reward measures."""

    def on(self, split: Split) -> Self:
        """A copy that scores on another split."""

    def score(self, choices: Sequence[LayerChoice]) -> Score:
        """Score a profile as it is."""

    def network(self, choices: Sequence[LayerChoice]) -> nn.Module:
        """The pruned, regressed and rounded network."""


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
    scores: ScoresChoices
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


def _zeros(choices: Sequence[LayerChoice]) -> IntArray:
    return np.array([choice.zeros for choice in choices], dtype=np.int64)


def _no_magnitudes() -> Sequence[FloatArray]:
    raise RuntimeError("ladders rank no single weights")


class LadderEvaluator:
    """Scores profiles in ticks by the rungs nearest to the milder profile.

    Args:
        inner: Scores choices.
        space: The ladders.
        power: See `as_scored`.
    """

    def __init__(self, inner: ScoresChoices, space: LadderSpace, *, power: float) -> None:
        self.inner, self._ladders, self._power = inner, space.ladders, power
        self._space: LadderSpace | None = space
        self.layers = space.ladders.rows
        self.dense, self.loss, self.metric = inner.dense, inner.loss, inner.metric

    def __getstate__(self) -> dict[str, object]:
        """Worker processes score, and need no context."""
        return self.__dict__ | {"_space": None}

    def context(self, config: WeightSparseConfig) -> AllocationContext:
        """The context at the target of the settings, a share of the cost that is saved."""
        if self._space is None:
            raise RuntimeError("a copy in a worker process has no context")
        return self._space.at(config.ws_prune_ratio)

    def rewarded(self) -> str:
        """See `Evaluator`."""
        return self.inner.rewarded()

    def on(self, split: Split) -> LadderEvaluator:
        """See `Evaluator`."""
        other = copy.copy(self)
        other.inner = self.inner.on(split)
        return other

    def checked(self, ticks: IntArray) -> IntArray:
        """Check a candidate; return it as int64.

        Raises:
            ValueError: It does not match the table.
        """
        ticks, sizes = np.asarray(ticks), self._ladders.sizes
        if ticks.shape != sizes.shape or not np.issubdtype(ticks.dtype, np.integer):
            raise ValueError(f"candidate of shape {ticks.shape}: must be {len(sizes)} whole ticks")
        return ticks.astype(np.int64)

    def scored(self, ticks: IntArray) -> IntArray:
        """(L,) places of the rungs of the milder profile."""
        milder = as_scored(self.checked(ticks), self._ladders.sizes, power=self._power)
        return self._ladders.nearest(milder)

    def score(self, ticks: IntArray) -> Score:
        """Score a candidate."""
        return self.inner.score(self._ladders.choices(self.scored(ticks)))

    def network(self, ticks: IntArray) -> nn.Module:
        """The network of a candidate as it is."""
        return self.inner.network(self._ladders.choices(self._ladders.nearest(ticks)))
