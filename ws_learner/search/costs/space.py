"""What the allocation needs of a problem in ticks of cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import nn

from envs import IntArray, project
from ws_learner.core import LayerChoice, LayerCosts
from ws_learner.search.context import AllocationContext
from ws_learner.search.costs.settle import Limit
from ws_learner.search.rollout.pool_protocol import Evaluator

__all__ = ["CostSpace", "Profile", "share_saved", "within_limits"]

Profile = tuple[LayerChoice, ...]
"""One choice for each layer."""

_NEAR = 2000


class CostSpace(Protocol):
    """A network's layers in ticks of cost."""

    @property
    def sizes(self) -> IntArray:
        """(L,) dense cost of each layer in ticks."""

    @property
    def tick(self) -> float:
        """Cost of a tick, in the unit of the costs."""

    @property
    def free(self) -> int:
        """Ticks by which the sizes exceed the dense network's cost."""

    @property
    def bounds(self) -> tuple[IntArray, IntArray]:
        """(L,) least and most ticks that each layer may save."""

    def at(self, share: float) -> AllocationContext:
        """The context of a share of all ticks that is saved."""

    def evaluator(self, *, power: float) -> Evaluator:
        """Scores profiles in ticks; `power` as in `as_scored`."""

    def cheapest(self, ticks: IntArray) -> Profile:
        """The profile in whole units that saves at least (L,) ticks."""

    def settle(self, ticks: IntArray, limits: Sequence[Limit]) -> Profile:
        """A profile near `cheapest(ticks)`, within the limits, that spends what is left."""

    def cheaper(self, profile: Profile, limits: Sequence[Limit]) -> Profile | None:
        """A profile near one of this space, within tighter limits; None if there is none."""

    def network(self, profile: Profile) -> nn.Module:
        """The pruned and regressed network."""


def share_saved(space: CostSpace, costs: LayerCosts, most: float) -> float:
    """Share of all ticks to save under a budget, as far as the bounds allow; 0: nothing."""
    lower, upper = space.bounds
    total = int(space.sizes.sum())
    kept = int(np.floor((most - costs.overhead) / space.tick + 1e-6)) + space.free
    saved = min(max(total - kept, int(lower.sum())), int(upper.sum()))
    return saved / total if saved > int(lower.sum()) else 0.0


def within_limits(space: CostSpace, ticks: IntArray, limits: Sequence[Limit]) -> Profile | None:
    """The profile nearest to one in ticks that is within limits; None if there is none.

    All shares kept are multiplied by one factor, found by bisection.
    """
    (lower, upper), sizes = space.bounds, space.sizes

    def at(budget: int) -> IntArray:
        return project(ticks, budget=budget, lower=lower, upper=upper, weights=sizes)

    def fits(budget: int) -> bool:
        choices = space.cheapest(at(budget))
        return all(limit.holds(limit.cost(choices)) for limit in limits)

    low, high, start = int(lower.sum()), int(upper.sum()), int(ticks.sum())
    if not fits(high):
        return None
    near = max(start - max(1, int(sizes.sum()) // _NEAR), low)
    if fits(start) and (near == start or not fits(near)):
        high = low = start  # as the protocol said
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return space.settle(at(high), limits)
