"""Caps, floors and fixed ratios by name: every protocol keeps to them and meets the budget."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from torch import nn

from envs.budget import project
from envs.problem import AllocationProblem, FloatArray, IntArray, LayerRow
from tests.support.layer_rows import layer_rows
from tests.support.searchers import MAKERS, searched, small_problem
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.core.errors import UserError
from ws_learner.pruning.layers.layer_plan import build_pattern_plan, fitting_rows
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.search.bounds import layer_bounds
from ws_learner.search.closed_form import CLOSED_FORM
from ws_learner.search.context import AllocationContext, allocation_context
from ws_learner.search.units import in_whole_units

RATIOS = np.array([0.0, 0.5, 0.8, 0.95, 1.0])
DENSITIES = np.array([0.0, 0.01, 0.1, 0.5, 0.9])


class Net(nn.Module):
    """Linear layers of several sizes, named layer0, layer1, ..."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        for place, size in enumerate(sizes):
            self.add_module(f"layer{place}", nn.Linear(8, size, bias=False))


def rows_of(net: Net) -> tuple[LayerRow, ...]:
    return tuple(
        LayerRow(
            name=name,
            kind="linear",
            role="ff",
            shape=tuple(weight.shape),
            weights=weight.numel(),
            macs=weight.numel(),
        )
        for name, weight in net.named_parameters()
    )


def context_of(
    net: Net, layers: tuple[LayerRow, ...], config: WeightSparseConfig
) -> AllocationContext:
    hurt = np.arange(1, len(layers) + 1)[:, None]

    def curves() -> tuple[FloatArray, FloatArray]:
        return RATIOS, hurt * RATIOS**3

    def own() -> tuple[FloatArray, FloatArray]:
        return DENSITIES, hurt * (1 - DENSITIES) ** 3

    def scores() -> list[FloatArray]:
        return [w.detach().abs().double().flatten().numpy() for w in net.parameters()]

    return allocation_context(net, layers, config, curves=curves, own=own, wanda_scores=scores)


@st.composite
def bounded(draw: st.DrawFn) -> tuple[list[int], dict[str, float], dict[str, float], float]:
    """Layer sizes, floors, caps, and a target between what they allow."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=2, max_size=6))
    names = [f"layer{place}" for place in range(len(sizes))]
    pairs = {n: sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))) for n in names}
    floors = {n: low for n, (low, _) in pairs.items() if draw(st.booleans())}
    caps = {n: high for n, (_, high) in pairs.items() if draw(st.booleans())}
    counts = [8 * size for size in sizes]
    low = sum(math.ceil(floors.get(n, 0.0) * c) for n, c in zip(names, counts, strict=True))
    high = sum(math.floor(caps.get(n, 1.0) * c) for n, c in zip(names, counts, strict=True))
    share = draw(st.floats(0.05, 0.95))
    return sizes, floors, caps, (low + share * (high - low)) / sum(counts)


@pytest.mark.parametrize("protocol", list(CLOSED_FORM))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=bounded())
def test_every_closed_form_keeps_to_random_bounds_and_meets_the_budget(
    protocol: str, case: tuple[list[int], dict[str, float], dict[str, float], float]
) -> None:
    sizes, floors, caps, target = case
    net = Net(sizes)
    layers = rows_of(net)
    total = sum(row.weights for row in layers)
    config = WeightSparseConfig(
        ws_prune_ratio=target,
        ws_ratio_max=1.0,
        ws_min_ratios=floors or None,
        ws_max_ratios=caps or None,
    )
    try:
        context = context_of(net, layers, config)
    except UserError:  # rounding of tiny layers; too many would fail the test
        reject()
    zeros = CLOSED_FORM[protocol](context)
    assert zeros.sum() == round(target * total)
    for row, count in zip(layers, zeros.tolist(), strict=True):
        module = row.name.partition(".")[0]
        low, high = floors.get(module, 0.0), caps.get(module, 1.0)
        assert count <= high * row.weights + 1e-6
        # No count may lie between the two in a small layer; then one weight too many is kept.
        assert count >= min(low * row.weights, math.floor(high * row.weights + 1e-9)) - 1e-6


def random_bounds(seed: int) -> AllocationProblem:
    problem, _ = small_problem(seed)
    rng = np.random.default_rng(seed)
    share = problem.prior / problem.weights
    lower = np.floor(problem.weights * share * rng.uniform(0.5, 1, len(share))).astype(np.int64)
    upper = np.ceil(
        problem.weights * (share + (1 - share) * rng.uniform(0, 0.6, len(share)))
    ).astype(np.int64)
    lower, upper = np.maximum(lower, problem.lower), np.minimum(upper, problem.upper)
    lower[2] = upper[2] = problem.prior[2]  # fixed
    prior = project(
        problem.prior, budget=problem.budget, lower=lower, upper=upper, weights=problem.weights
    )
    return dataclasses.replace(problem, lower=lower, upper=upper, prior=prior)


@pytest.mark.parametrize("name", MAKERS)
def test_every_search_keeps_to_random_bounds_and_meets_the_budget(
    name: str, tmp_path: Path
) -> None:
    problem = random_bounds(seed=3)
    history = searched(name, tmp_path, problem, rollouts=12)
    assert len({rollout.zeros.tobytes() for rollout in history}) == len(history) > 8
    for rollout in history:
        assert rollout.zeros.sum() == problem.budget
        assert np.all((problem.lower <= rollout.zeros) & (rollout.zeros <= problem.upper))


@pytest.mark.parametrize("pattern", ["4x1", "2:4", "n:4", "channelx1"])
@pytest.mark.parametrize("protocol", ["uniform", "lamp", "knapsack", "divergence"])
def test_bounds_hold_in_whole_units_of_a_pattern(pattern: str, protocol: str) -> None:
    net, spelled = Net([8, 12, 16, 8]), parse_pattern(pattern)
    layers = fitting_rows(net, rows_of(net), pattern=spelled, remainder="pad", method="gradual")
    config = WeightSparseConfig(
        ws_prune_ratio=0.4,
        ws_pattern=pattern,
        ws_prune_ratio_prtl=protocol,
        ws_max_ratios={"layer0": 0.3},
        ws_min_ratios={"layer1": 0.45},
        ws_fixed_ratios={"layer3": 0.25},
    )
    plan = build_pattern_plan(net, [row.name for row in layers], pattern=spelled)
    context = context_of(net, layers, config)
    limits = {
        row.name: (int(low), int(high))
        for row, low, high in zip(layers, context.lower, context.upper, strict=True)
    }
    profile = CLOSED_FORM[protocol](context)
    zeros: IntArray = in_whole_units(profile, layers, plan, config=config, limits=limits)
    counts = dict(zip(limits, zeros.tolist(), strict=True))
    assert counts["layer0.weight"] <= 0.3 * 64
    assert counts["layer1.weight"] >= 0.45 * 96
    assert counts["layer3.weight"] == 16  # 0.25 of 64: whole units of all four patterns
    for name, count in counts.items():
        assert plan.patterns[name].feasible(plan.shapes[name], count) == count
    assert abs(zeros.sum() - 0.4 * 352) <= 32


def bounds(**config: object) -> dict[str, tuple[int, int]]:
    layers = layer_rows([100, 200, 300])
    low, high = layer_bounds(layers, WeightSparseConfig(**config))  # type: ignore[arg-type]
    pairs = zip(low.tolist(), high.tolist(), strict=True)
    return {row.name[:6]: pair for row, pair in zip(layers, pairs, strict=True)}


def test_a_named_bound_takes_the_place_of_the_general_one() -> None:
    found = bounds(ws_ratio_max=0.9, ws_max_ratios={"layer0": 1.0, "layer1.weight": 0.5})
    assert found == {"layer0": (0, 100), "layer1": (0, 100), "layer2": (0, 270)}
    found = bounds(ws_ratio_min=0.2, ws_min_ratios={"layer0": 0.1, "layer2": 0.999})
    assert found == {"layer0": (10, 99), "layer1": (40, 199), "layer2": (299, 299)}


def test_an_exact_name_goes_before_a_pattern_and_more_letters_before_fewer() -> None:
    found = bounds(ws_max_ratios={"layer[12]*": 0.8, "*": 0.9, "layer2": 0.7}, ws_prune_ratio=0.5)
    assert [most for _, most in found.values()] == [90, 160, 210]
    assert found == bounds(ws_max_ratios="re:.*=0.9,layer2=0.7,layer[12]*=0.8", ws_prune_ratio=0.5)


def test_a_fixed_ratio_is_met_by_the_nearest_count() -> None:
    assert bounds(ws_fixed_ratios={"layer1": 0.333})["layer1"] == (67, 67)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"ws_max_ratios": {"layerX": 0.5}}, "`ws_max_ratios` 'layerX': fits no layer; did you"),
        ({"ws_min_ratios": {"re:(": 0.5}}, "`ws_min_ratios` 're:(': is no regular expression"),
        ({"ws_max_ratios": {"*": 0.5}}, "allow 0.0000 to 0.5000"),
        ({"ws_min_ratios": {"*": 0.8}}, "allow 0.8000 to 0.9933"),  # 596 of 600, rounded down
        (
            {"ws_min_ratios": {"layer1": 0.6}, "ws_max_ratios": {"layer?": 0.5}},
            "`ws_min_ratios` layer1=0.6 exceeds `ws_max_ratios` layer?=0.5 in layer1.weight",
        ),
        (
            {"ws_fixed_ratios": {"layer1": 0.6}, "ws_max_ratios": {"layer?": 0.5}},
            "`ws_fixed_ratios` layer1=0.6 exceeds `ws_max_ratios` layer?=0.5",
        ),
        ({"ws_max_ratios": {"layer1": 50}}, "did you mean 0.5?"),
        ({"ws_max_ratios": "layer1"}, "`ws_max_ratios` layer1: cannot be read"),
        ({"ws_max_ratios": {}}, "`ws_max_ratios`: names no layer"),
        ({"ws_max_ratios": 0.5}, "must be a dict of layer -> ratio"),
    ],
)
def test_bounds_that_cannot_be_met_are_refused_in_one_line(
    config: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError) as caught:
        bounds(**config)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_floor_for_a_layer_that_stays_dense_is_refused() -> None:
    layers = layer_rows([100, 200], exempt=(0,))
    with pytest.raises(UserError, match=r"`ws_min_ratios` layer0=0\.5: .* stays dense"):
        layer_bounds(layers, WeightSparseConfig(ws_min_ratios={"layer0": 0.5}, ws_prune_ratio=0.3))
    covered = WeightSparseConfig(ws_min_ratios={"layer*": 0.5}, ws_prune_ratio=0.4)
    assert layer_bounds(layers, covered)[0].tolist() == [0, 100]


def test_a_pattern_that_makes_no_such_count_says_which_are_near() -> None:
    net = Net([8, 8])
    config = WeightSparseConfig(
        ws_pattern="channelx1", ws_prune_ratio=0.5, ws_min_ratios={"layer0": 0.3},
        ws_max_ratios={"layer0": 0.35},
    )  # fmt: skip
    with pytest.raises(UserError, match=r"nearest ratios are 0\.2500 and 0\.3750"):
        context_of(net, rows_of(net), config)
