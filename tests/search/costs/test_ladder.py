"""Ladders against brute force: the joint choice of pattern, zeros and number format."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from envs import LayerRow
from ws_learner.core import LayerChoice, LayerCosts
from ws_learner.search.closed_form import run_closed_form
from ws_learner.search.costs.ladder import Ladders, build_ladders
from ws_learner.search.costs.ladder_space import LadderSpace
from ws_learner.search.costs.settle import Limit
from ws_learner.search.costs.shares import weigh_budgets
from ws_learner.search.costs.space import share_saved, within_limits

LAYERS, CHOICES = 4, 6
ANY = {"least": np.zeros(LAYERS, np.int64), "most": np.full(LAYERS, 100)}


class Listed:
    """Costs from a table."""

    unit, digest, overhead = "latency@wsr", "", 0.5

    def __init__(self, prices: Sequence[dict[LayerChoice, float]]) -> None:
        self._prices = prices

    def cost(self, layer: int, choice: LayerChoice) -> float:
        return self._prices[layer][choice]


def problem(seed: int) -> tuple[Ladders, Listed, list[list[LayerChoice]], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    rows = [
        LayerRow(name=f"l{i}", kind="linear", role="ff", shape=(10, 10), weights=100, macs=100)
        for i in range(LAYERS)
    ]
    choices, prices, errors = [], [], []
    for _ in rows:
        own = [LayerChoice(pattern="unstructured", zeros=0)]
        own += [
            LayerChoice(pattern=("4x1", "unstructured")[i % 2], zeros=int(z), dtype=dtype)
            for i, z in enumerate(rng.choice(np.arange(1, 99), CHOICES - 1, replace=False))
            for dtype in (("fp32", "int8")[int(rng.integers(2))],)
        ]
        choices.append(own)
        price = np.concatenate([[1.0], rng.uniform(0.05, 1.1, CHOICES - 1)])
        prices.append(dict(zip(own, price.tolist(), strict=True)))
        errors.append(np.concatenate([[0.0], rng.uniform(0.001, 1.0, CHOICES - 1)]))
    costs = Listed(prices)
    ladders = build_ladders(rows, choices, costs=costs, errors=errors, own=None, **ANY)
    return ladders, costs, choices, errors


def space_of(ladders: Ladders) -> LadderSpace:
    return LadderSpace(
        unit="latency@wsr",
        ladders=ladders,
        scores=None,  # type: ignore[arg-type]  # nothing is scored here
        score_power=1.0,
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_ladder_keeps_exactly_what_nothing_beats(seed: int) -> None:
    ladders, costs, choices, errors = problem(seed)
    for layer, own in enumerate(choices):
        price = np.array([costs.cost(layer, choice) for choice in own])
        beaten = [
            any(
                (price[b] <= price[a] and errors[layer][b] < errors[layer][a])
                or (price[b] < price[a] and errors[layer][b] <= errors[layer][a])
                for b in range(len(own))
                if b != a
            )
            for a in range(len(own))
        ]
        expected = {choice for choice, lost in zip(own, beaten, strict=True) if not lost}
        assert set(ladders.rungs[layer]) == expected
        assert list(ladders.savings[layer]) == sorted(set(ladders.savings[layer]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.5, 0.7])
def test_the_knapsack_finds_the_least_error_of_all_joint_choices(seed: int, share: float) -> None:
    ladders, costs, choices, errors = problem(seed)
    most = costs.overhead + share * LAYERS
    space = space_of(ladders)
    limit = Limit(costs=costs, most=most, said="")
    saved = share_saved(space, costs, most)
    ticks = run_closed_form("knapsack", space.at(saved))
    profile = space.cheapest(ticks)
    index = [{choice: i for i, choice in enumerate(own)} for own in choices]
    found = sum(errors[i][index[i][choice]] for i, choice in enumerate(profile))
    best = min(
        sum(errors[i][place] for i, place in enumerate(places))
        for places in itertools.product(range(CHOICES), repeat=LAYERS)
        if limit.holds(limit.cost([choices[i][p] for i, p in enumerate(places)]))
    )
    assert limit.holds(limit.cost(profile))
    assert found == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_settled_is_within_the_limits_and_no_step_up_is(seed: int) -> None:
    ladders, costs, _, _ = problem(seed)
    space = space_of(ladders)
    limit = Limit(costs=costs, most=costs.overhead + 0.5 * LAYERS, said="")
    rng = np.random.default_rng(seed)
    ticks = (rng.uniform(0, 1, LAYERS) * ladders.most).astype(np.int64)
    profile = within_limits(space, ticks, [limit])
    assert profile is not None
    cost = limit.cost(profile)
    assert limit.holds(cost)
    for layer, choice in enumerate(profile):
        place = ladders.rungs[layer].index(choice)
        if place:
            step = costs.cost(layer, ladders.rungs[layer][place - 1]) - costs.cost(layer, choice)
            assert not limit.holds(cost + step)


def test_a_limit_below_the_cheapest_profile_has_no_answer() -> None:
    ladders, costs, _, _ = problem(0)
    limit = Limit(costs=costs, most=costs.overhead + 0.01, said="")
    assert within_limits(space_of(ladders), ladders.most // 2, [limit]) is None


def test_several_budgets_get_weights_under_which_the_worst_is_just_met() -> None:
    def overspent(shares: np.ndarray) -> list[float]:
        return [1.6 - shares[0], 0.7 + shares[0]]  # equal at 0.45, where both are overspent

    shares = weigh_budgets(overspent, 2)
    assert shares.sum() == pytest.approx(1)
    assert max(overspent(shares)) == pytest.approx(1.15, abs=0.02)
    assert weigh_budgets(lambda s: [1.0, 0.5], 2).tolist() == [1.0, 0.0]


def test_costs_satisfy_the_protocol() -> None:
    costs: LayerCosts = problem(0)[1]
    assert costs.unit.startswith("latency@")
