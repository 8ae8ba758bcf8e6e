"""Structured profiles: least squares, allocation within the budget, measured corrections."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.rollout_parts import accuracy, tiny_data
from tests.support.structured_nets import NETS
from ws_learner.config import RolloutConfig
from ws_learner.core import UserError
from ws_learner.deploy import find_coupled_units, shrink
from ws_learner.pruning import (
    PatternLockConfig,
    Sparsifier,
    found_zeros,
    layer_table,
    layer_widths,
)
from ws_learner.search import UnitDatabase, WeightCosts, allocate_units, structured_profile
from ws_learner.search.structured.unit_removal import Reader, regress_columns, removal_order


def reader(
    seed: int, *, outputs: int = 5, units: int = 4, each: int = 3
) -> tuple[Reader, torch.Tensor]:
    """A reader with correlated inputs, and those inputs (N, D)."""
    generator = torch.Generator().manual_seed(seed)
    width = units * each
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    inputs = torch.randn(400, width, generator=generator, dtype=torch.float64) @ mix
    rows = torch.randn(outputs, width, generator=generator, dtype=torch.float64)
    columns = torch.randperm(width, generator=generator).reshape(units, each)
    return Reader(rows, inputs.T @ inputs / len(inputs), columns), inputs


def least_error(one: Reader, inputs: torch.Tensor, gone: Sequence[int]) -> float:
    """Relative squared error of the outputs, by an ordinary least-squares solver."""
    wanted = inputs @ one.rows.T
    stay = [c for unit, own in enumerate(one.columns.tolist()) if unit not in gone for c in own]
    if not stay:
        return 1.0
    solution = torch.linalg.lstsq(inputs[:, stay], wanted, driver="gelsd").solution
    return float((inputs[:, stay] @ solution - wanted).square().sum() / wanted.square().sum())


def test_errors_of_removal_are_those_of_least_squares() -> None:
    parts = [reader(seed, outputs=4 + seed) for seed in range(2)]
    found = removal_order([one for one, _ in parts], ridge=0.0)
    assert sorted(found.order) == [0, 1, 2, 3]
    for count in range(5):
        wanted = sum(least_error(*part, found.order[:count]) for part in parts)
        assert found.errors[count] == pytest.approx(wanted, abs=1e-9)


def test_the_first_unit_to_go_is_the_best_by_brute_force() -> None:
    for seed in range(5):
        one, inputs = reader(seed, units=6, each=2)
        found = removal_order([one], ridge=0.0)
        for count in range(4):  # greedy: the best next one, given those that are gone
            before = found.order[:count]
            errors = {
                unit: least_error(one, inputs, [*before, unit])
                for unit in range(6)
                if unit not in before
            }
            assert found.order[count] == min(errors, key=errors.__getitem__)


def test_regressed_columns_are_those_of_lstsq() -> None:
    one, inputs = reader(3)
    keep = torch.ones(12, dtype=torch.bool)
    keep[one.columns[[0, 2]].flatten()] = False
    solved = regress_columns(one.rows, one.gram, keep, ridge=0.0)
    wanted = torch.linalg.lstsq(inputs[:, keep], inputs @ one.rows.T).solution.T
    torch.testing.assert_close(solved[:, keep], wanted)
    assert not solved[:, ~keep].any()


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[int]], list[np.ndarray], np.ndarray, float]:
    """Levels, errors, a matrix of the costs of pairs of sets, and a share of the dense cost."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 4))
    levels = [sorted({int(v) for v in rng.integers(1, 12, 4)} | {12}) for _ in range(count)]
    errors = [np.append(np.sort(rng.random(len(own) - 1))[::-1], 0.0) for own in levels]
    return (
        levels,
        errors,
        rng.random((count, count)) * (rng.random((count, count)) < 0.6),
        (draw(st.floats(0.02, 1.1))),
    )


@settings(max_examples=60, deadline=None)
@given(problems())
def test_an_allocation_never_exceeds_the_budget(problem: tuple) -> None:  # type: ignore[type-arg]
    levels, errors, matrix, share = problem

    def total(kept: Sequence[int]) -> float:
        counts = np.array(kept)
        return float(counts @ matrix @ counts + counts.sum())

    budget = share * total([own[-1] for own in levels])
    states = list(itertools.product(*levels))
    within = [state for state in states if total(state) <= budget]
    if not within:
        with pytest.raises(UserError, match="`budget`"):
            allocate_units(levels, errors, total, budget=budget)
        return

    def error(kept: Sequence[int]) -> float:
        return sum(float(e[own.index(n)]) for e, own, n in zip(errors, levels, kept, strict=True))

    kept = allocate_units(levels, errors, total, budget=budget)
    assert total(kept) <= budget
    # No change of one set is better, by brute force.
    near = [s for s in within if sum(a != b for a, b in zip(s, kept, strict=True)) <= 1]
    assert error(kept) <= min(map(error, near)) + 1e-9


@settings(max_examples=40, deadline=None)
@given(problems())
def test_separate_costs_give_the_optimum(problem: tuple) -> None:  # type: ignore[type-arg]
    levels, errors, matrix, share = problem
    prices = 1 + matrix.sum(0)

    def total(kept: Sequence[int]) -> float:
        return float(prices @ np.array(kept))

    least, most = total([own[0] for own in levels]), total([own[-1] for own in levels])
    budget = least + min(share, 1.0) * (most - least)
    values = {
        state: sum(float(e[own.index(n)]) for e, own, n in zip(errors, levels, state, strict=True))
        for state in itertools.product(*levels)
    }
    kept = allocate_units(levels, errors, total, budget=budget)
    # The knapsack counts in 1/8192 of the range, rounded to the safe side.
    room = budget - (most - least) * len(levels) / 8192
    optimum = min((v for s, v in values.items() if total(s) <= room), default=np.inf)
    assert total(kept) <= budget
    assert values[kept] <= optimum + 1e-9


@pytest.mark.parametrize("name", NETS)
def test_costs_are_those_of_the_shrunk_network(name: str) -> None:
    model, example = NETS[name]()
    sets = find_coupled_units(model, example).sets
    database = UnitDatabase.measure(model, sets, [example.repeat(8, *[1] * (example.dim() - 1))])
    kept = [max(1, one.units // 2) for one in sets]
    network, _ = NETS[name]()
    database.prune(network, kept)
    slim = shrink(network, example).model
    torch.testing.assert_close(slim(example), network(example), rtol=1e-4, atol=1e-4)
    params = WeightCosts(model, sets, unit="params")
    gained = sum(p.numel() for n, p in slim.named_parameters() if n not in model.state_dict())
    assert params.total(kept) == sum(p.numel() for p in slim.parameters()) - gained
    macs = WeightCosts(model, sets, unit="macs", layers=layer_table(model, example))
    assert macs.total(kept) == pytest.approx(sum(row.macs for row in layer_table(slim, example)))


def trained() -> nn.Module:
    """A network with three sets, of the shape of `tiny_data`'s images."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 12),
        nn.ReLU(),
        nn.Linear(12, 4),
    ).eval()


def test_a_profile_is_corrected_by_what_is_measured() -> None:
    model, example = trained(), torch.randn(2, 3, 8, 8)
    sets = find_coupled_units(model, example).sets
    costs = WeightCosts(model, sets, unit="params")
    budget = 0.5 * costs.total([one.units for one in sets])
    sizes: list[float] = []

    def measure(network: nn.Module) -> float:  # a tenth more than predicted
        sizes.append(1.1 * sum(p.numel() for p in shrink(network, example).model.parameters()))
        return sizes[-1]

    found = structured_profile(
        model,
        tiny_data(),
        sets=sets,
        costs=costs,
        budget=budget,
        loss=nn.CrossEntropyLoss(),
        metric=accuracy,
        measure=measure,
        config=RolloutConfig(nb_smpls_rg=64, nb_smpls_bn=32, nb_iters_feval=1, batch_size=32),
        nb_rollouts=4,
    )
    assert sizes[0] > budget  # the prediction was wrong
    assert 0.9 * budget <= found.measured <= budget
    assert found.measured == pytest.approx(1.1 * found.predicted)
    assert len(found.variants) == 4
    assert min(found.variants) <= found.variants[0]
    assert found.kept == {one.name: one.units - len(found.gone.get(one.name, ())) for one in sets}
    slim = shrink(found.model, example).model
    torch.testing.assert_close(slim(example), found.model(example), rtol=1e-4, atol=1e-5)
    assert found_zeros(found.model)


def test_a_network_just_over_the_budget_is_made_smaller() -> None:
    model, example = trained(), torch.randn(2, 3, 8, 8)
    sets = find_coupled_units(model, example).sets
    costs = WeightCosts(model, sets, unit="params")
    budget = 0.5 * costs.total([one.units for one in sets])
    measured: list[float] = []

    def measure(network: nn.Module) -> float:
        size = sum(p.numel() for p in shrink(network, example).model.parameters())
        measured.append(1.0001 * budget if not measured else min(float(size), budget))
        return measured[-1]

    found = structured_profile(
        model,
        tiny_data(),
        sets=sets,
        costs=costs,
        budget=budget,
        loss=nn.CrossEntropyLoss(),
        metric=accuracy,
        measure=measure,
        config=RolloutConfig(nb_smpls_rg=64, nb_smpls_bn=32, nb_iters_feval=1, batch_size=32),
        nb_rollouts=2,
    )
    assert len(measured) > 1
    assert found.measured <= budget
    assert found.predicted < found.corrections[0].predicted


def test_settings_out_of_range_are_refused() -> None:
    model, example = trained(), torch.randn(2, 3, 8, 8)
    sets = find_coupled_units(model, example).sets
    costs = WeightCosts(model, sets, unit="params")
    for wrong in ({"budget": -1.0}, {"nb_rollouts": 1}, {"nb_corrections": 0}, {"tolerance": 1.0}):
        given_: dict[str, object] = {"budget": 100.0} | wrong
        with pytest.raises(UserError, match=f"`{next(iter(wrong))}`"):
            structured_profile(
                model,
                tiny_data(),
                sets=sets,
                costs=costs,
                loss=nn.CrossEntropyLoss(),
                metric=accuracy,
                **given_,  # type: ignore[arg-type]
            )


@pytest.mark.parametrize("name", NETS)
def test_training_keeps_zero_units_so_that_they_go_afterwards(name: str) -> None:
    model, example = NETS[name]()
    sets = find_coupled_units(model, example).sets
    kept = [max(1, one.units // 2) for one in sets]
    database = UnitDatabase.measure(model, sets, [example])
    network, _ = NETS[name]()
    database.prune(network, kept)
    network.train()
    zeros = found_zeros(network)
    sparsifier = Sparsifier(network, PatternLockConfig(), zeros=zeros, total_steps=3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    sparsifier.attach(optimizer)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        inputs = torch.randn(example.shape, generator=generator)
        optimizer.zero_grad()
        network(inputs).square().sum().backward()
        optimizer.step()
    network = sparsifier.finalize().eval()
    slim = shrink(network, example).model
    torch.testing.assert_close(slim(example), network(example), rtol=1e-4, atol=1e-5)
    for layer, (inputs_, outputs) in layer_widths(model, sets).items():
        weight = slim.get_parameter(f"{layer}.weight")
        assert len(weight) == outputs.at(kept)
        assert weight.dim() == 1 or weight.shape[1] == inputs_.at(kept)
