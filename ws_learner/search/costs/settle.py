"""Whole zeros within budgets: as few as the budgets allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from envs import FloatArray, IntArray, LayerRow
from ws_learner.core import LayerChoice, LayerCosts
from ws_learner.pruning import PatternPlan

__all__ = ["Limit", "settle"]

_SLACK = 1e-9  # of a budget: sums of floats are not exact


@dataclass(frozen=True, kw_only=True, eq=False)
class Limit:
    """A budget and what it is spent on.

    Attributes:
        costs: Cost of each choice.
        most: The budget in the unit of the costs.
        said: The budget in the user's words.
        pace: Milliseconds of the dense network at which latencies are told; None for other units.
    """

    costs: LayerCosts
    most: float
    said: str
    pace: float | None = None

    def cost(self, choices: Sequence[LayerChoice]) -> float:
        """Cost of a network, with what no layer has."""
        layers = sum(self.costs.cost(layer, choice) for layer, choice in enumerate(choices))
        return self.costs.overhead + layers

    def holds(self, cost: float) -> bool:
        """Whether a network of that cost is within the budget."""
        return cost <= self.most * (1 + _SLACK)


@dataclass(kw_only=True)
class _Network:
    """Zeros of the teams, and the costs that go with them."""

    layers: Mapping[str, int]
    limits: Sequence[Limit]
    choice: Callable[[int], LayerChoice]
    zeros: dict[str, int]
    spent: list[float]

    def try_team(self, zeros: Mapping[str, int]) -> list[float]:
        """What would be spent with other zeros of some layers."""
        return [
            spent
            + sum(
                limit.costs.cost(self.layers[name], self.choice(count))
                - limit.costs.cost(self.layers[name], self.choice(self.zeros[name]))
                for name, count in zeros.items()
            )
            for limit, spent in zip(self.limits, self.spent, strict=True)
        ]

    def take(self, zeros: Mapping[str, int]) -> bool:
        """Set other zeros of some layers if the budgets allow it."""
        spent = self.try_team(zeros)
        if not all(limit.holds(cost) for limit, cost in zip(self.limits, spent, strict=True)):
            return False
        self.spent = spent
        self.zeros.update(zeros)
        return True


def settle(
    wanted: FloatArray,
    layers: Sequence[LayerRow],
    *,
    plan: PatternPlan,
    limits: Sequence[Limit],
    lower: IntArray,
    choice: Callable[[int], LayerChoice],
) -> IntArray:
    """(L,) zeros in whole units, near those wanted, after which no unit more can be kept.

    Counts are rounded up to whole units. Where the budgets allow it single units are given back,
    first to the layers that lost most by rounding, then to those whose units cost most. So the
    budgets are met as exactly as whole units can meet them.

    Args:
        wanted: (L,) zeros, not necessarily whole. Rounded up they must be within the budgets.
        layers: The layer table.
        plan: Whole units of the pattern.
        limits: The budgets.
        lower: (L,) least zeros of each layer.
        choice: The choice that a number of zeros is.
    """
    places = {row.name: place for place, row in enumerate(layers)}
    zeros = {row.name: 0 for row in layers}
    teams = [team for team in plan.teams if team[0] in places]
    lost: dict[tuple[str, ...], float] = {}
    for team in teams:
        asked = sum(float(wanted[places[name]]) for name in team)
        up = plan.team_nearby(team, int(np.ceil(asked - 1e-6)))[1]
        lost[team] = up - asked
        zeros |= plan.divided(team, up)
    ordered = [choice(zeros[row.name]) for row in layers]
    spent = [limit.cost(ordered) for limit in limits]
    network = _Network(layers=places, limits=limits, choice=choice, zeros=zeros, spent=spent)
    least = {team: sum(int(lower[places[name]]) for name in team) for team in teams}
    for team in sorted(teams, key=lambda team: -lost[team] / max(_unit(plan, team), 1)):
        if lost[team] > 0:
            _give_back(network, plan, team, least[team], units=1)
    for team in sorted(teams, key=lambda team: -_price(network, plan, team)):
        _give_back(network, plan, team, least[team], units=None)
    return np.array([network.zeros[row.name] for row in layers], dtype=np.int64)


def _unit(plan: PatternPlan, team: tuple[str, ...]) -> int:
    """Weights of the smallest unit."""
    return plan.team_nearby(team, 1)[1]


def _price(network: _Network, plan: PatternPlan, team: tuple[str, ...]) -> float:
    """Share of a budget that a unit costs."""
    count = sum(network.zeros[name] for name in team)
    less = plan.divided(team, plan.team_nearby(team, max(count - 1, 0))[0])
    after = network.try_team(less)
    shares = zip(after, network.spent, network.limits, strict=True)
    return max((new - old) / max(limit.most, 1e-300) for new, old, limit in shares)


def _give_back(
    network: _Network, plan: PatternPlan, team: tuple[str, ...], least: int, *, units: int | None
) -> None:
    """Keep one unit more, or as many as the budgets allow."""
    count = sum(network.zeros[name] for name in team)
    if units == 1:
        below = plan.team_nearby(team, max(count - 1, 0))[0]
        if least <= below < count:
            network.take(plan.divided(team, below))
        return
    low, high = max(least, 0), count
    while low < high:  # the least count within the budgets
        middle = plan.team_nearby(team, (low + high) // 2)[0]
        if middle < low:
            middle = plan.team_nearby(team, low)[1]
        if middle >= high:
            return
        fits = all(
            limit.holds(cost)
            for limit, cost in zip(
                network.limits, network.try_team(plan.divided(team, middle)), strict=True
            )
        )
        if fits:
            high = middle
            network.take(plan.divided(team, middle))
        else:
            low = middle + 1
