"""The least sum of own divergences against all combinations of counts; seeds ordered by it."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial

import numpy as np
import pytest

from envs.budget import project
from envs.milder import as_scored
from envs.own_curves import OwnCurves
from envs.problem import FloatArray, IntArray, LayerRow
from ws_learner.core import UserError
from ws_learner.search.context import AllocationContext
from ws_learner.search.least_divergence import divergence, least_divergence
from ws_learner.search.seeds import seed_profiles

DENSITIES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7])


def context_of(
    sizes: list[int],
    target: float,
    *,
    values: FloatArray,
    power: float = 1.0,
    lower: IntArray | None = None,
    upper: IntArray | None = None,
    choices: tuple[IntArray, ...] | None = None,
) -> AllocationContext:
    weights = np.array(sizes, np.int64)
    rows = [
        LayerRow(name=f"{i}.weight", kind="linear", role="ff", shape=(1, n), weights=n, macs=n)
        for i, n in enumerate(sizes)
    ]
    rng = np.random.default_rng(0)
    magnitudes = [rng.exponential(1.0, n) for n in sizes]
    ratios = np.array([0.0, 0.3, 0.6, 0.9, 1.0])
    return AllocationContext(
        layers=tuple(rows),
        budget=round(target * int(weights.sum())),
        lower=0 * weights if lower is None else lower,
        upper=weights if upper is None else upper,
        magnitudes=lambda: magnitudes,
        curves=lambda: (ratios, np.tile(ratios**2, (len(sizes), 1))),
        wanda_scores=lambda: magnitudes,
        own=lambda: (DENSITIES, values),
        score_power=power,
        choices=choices,
    )


def falling(seed: int, layers: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    steps = rng.exponential(1.0, (layers, len(DENSITIES)))
    return np.exp(np.cumsum(steps[:, ::-1], 1)[:, ::-1] - rng.uniform(5, 8, (layers, 1)))


def summed(curves: OwnCurves, zeros: IntArray, power: float) -> float:
    """Sum of own divergences at the profile as scored."""
    sizes = curves.weights
    scored = as_scored(zeros, sizes, power=power)
    return float(curves(np.log(np.maximum(sizes - scored, 0.5) / sizes))[0].sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", [0.3, 0.6, 0.8])
def test_it_is_the_best_of_all_profiles_on_the_budget(seed: int, target: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = [12, 20, 9, 16]
    lower = np.array([0, rng.integers(0, 5), 0, 0])
    upper = np.array([12, 20, 9, 16])
    lower[2] = upper[2] = 0 if seed % 2 else 4  # exempt, or held
    upper[0] = 11
    context = context_of(sizes, target, values=falling(seed, 4), lower=lower, upper=upper)
    curves = OwnCurves(DENSITIES, falling(seed, 4), context.weights)
    found = divergence(context)
    assert found.sum() == context.budget
    assert ((lower <= found) & (found <= upper)).all()
    ranges = [range(low, high + 1) for low, high in zip(lower, upper, strict=True)]
    every = [np.array(z) for z in itertools.product(*ranges) if sum(z) == context.budget]
    least = min(summed(curves, zeros, 1.0) for zeros in every)
    assert summed(curves, found, 1.0) == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_milder_profile_is_what_counts(seed: int) -> None:
    """Rounding of the milder counts makes ties and jumps: within 2 % of the least, as scored."""
    sizes, power = [40, 60, 30], 0.75
    values = falling(seed, 3)
    context = context_of(sizes, 0.8, values=values, power=power)
    curves = OwnCurves(DENSITIES, values, context.weights)
    found = divergence(context)
    every = (
        np.array([a, b, context.budget - a - b])
        for a, b in itertools.product(range(41), range(61))
        if 0 <= context.budget - a - b <= 30
    )
    scores = [summed(curves, zeros, power) for zeros in every]
    assert summed(curves, found, power) <= 1.02 * min(scores)
    strict = least_divergence(context_of(sizes, 0.8, values=values), curves)
    assert summed(curves, found, power) <= summed(curves, strict, power) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("power", [1.0, 0.75])
def test_choices_of_nm_keep_at_least_the_zeros_and_are_the_best(seed: int, power: float) -> None:
    sizes = [1600, 3200, 6400, 1600]
    choices = tuple(np.array([0, n // 4, n // 2, 3 * n // 4]) for n in sizes)
    values = falling(seed, 4)
    context = context_of(sizes, 0.5, values=values, power=power, choices=choices)
    curves = OwnCurves(DENSITIES, values, context.weights)
    found = divergence(context)
    assert found.sum() >= context.budget
    assert all(n in counts for n, counts in zip(found.tolist(), choices, strict=True))
    every = [np.array(z) for z in itertools.product(*choices) if sum(z) >= context.budget]
    # One factor for all profiles: the least under it, or better.
    factor = 0.5 ** (power - 1)

    def priced(zeros: IntArray) -> float:
        return float(curves(np.log(np.minimum(factor * (1 - zeros / sizes), 1.0)))[0].sum())

    assert summed(curves, found, power) <= summed(curves, min(every, key=priced), power) * 1.0001


@pytest.mark.parametrize("target", [0.0, 0.01, 1.0])
def test_extreme_targets(target: float) -> None:
    context = context_of([12, 1, 2, 30], target, values=falling(0, 4), power=0.75)
    found = divergence(context)
    assert found.sum() == context.budget
    zeros = context_of([12, 1, 2, 30], target, values=np.zeros((4, 8)), power=0.75)
    assert divergence(zeros).sum() == context.budget


def test_without_known_outputs_it_is_refused() -> None:
    context = dataclasses.replace(context_of([5, 5], 0.5, values=falling(0, 2)), own=lambda: None)
    with pytest.raises(UserError, match="`outputs`"):
        divergence(context)


def test_seeds_come_in_the_order_of_their_predicted_divergence() -> None:
    values = falling(2, 4)
    context = context_of([400, 900, 300, 50], 0.9, values=values, power=0.75)
    curves = OwnCurves(DENSITIES, values, context.weights)
    found = seed_profiles(context)
    assert next(iter(found)) == "divergence"
    sums = [summed(curves, zeros, 0.75) for zeros in found.values()]
    assert sums == sorted(sums)
    assert all(total <= 1.5 * sums[0] for total in sums[3:])
    distinct = {zeros.tobytes() for zeros in found.values()}
    assert len(distinct) == len(found)
    fit = partial(
        project,
        budget=context.budget,
        lower=context.lower,
        upper=context.upper,
        weights=context.weights,
    )
    for zeros in found.values():
        assert fit(zeros).tolist() == zeros.tolist()
