"""Wanted densities to the scored profile and back: the whole-number projections, derivatives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from agents.settle import Settling, scored_point, whole_profile
from envs.milder import as_scored, log_densities
from envs.problem import AllocationProblem, FloatArray
from tests.support.searchers import small_problem
from tests.support.synthetic_problem import synthetic_problem


def problem_with_bounds(seed: int, power: float = 0.75) -> AllocationProblem:
    """22 layers with random bounds; two exempt ones and one that is held."""
    rng = np.random.default_rng(seed)
    problem, _ = synthetic_problem(target=float(rng.uniform(0.6, 0.97)))
    sizes = problem.weights
    lower = np.floor(sizes * rng.uniform(0, 0.5, len(sizes))).astype(np.int64)
    upper = np.ceil(sizes * rng.uniform(0.975, 1.0, len(sizes))).astype(np.int64)
    lower[[0, 21]] = upper[[0, 21]] = 0
    lower[5] = upper[5] = sizes[5] // 2
    return dataclasses.replace(problem, lower=lower, upper=upper, score_power=power)


def wishes(problem: AllocationProblem, rng: np.random.Generator) -> FloatArray:
    middle = np.log(1 - problem.target)
    return np.minimum(middle + rng.normal(0, 0.8, len(problem.layers)), -1e-3)


@pytest.mark.parametrize("power", [0.6, 0.75, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_projection_onto_budget_and_milder_budget(seed: int, power: float) -> None:
    problem = problem_with_bounds(seed, power)
    sizes, rng = problem.weights, np.random.default_rng(seed)
    for _ in range(4):
        wanted = wishes(problem, rng)
        settled = Settling.of(problem)(wanted)
        zeros = whole_profile(wanted, problem)
        assert zeros.sum() == problem.budget
        assert ((problem.lower <= zeros) & (zeros <= problem.upper)).all()
        assert sizes * np.exp(settled.executed) == pytest.approx(sizes - zeros, abs=1.01)
        scored = as_scored(zeros, sizes, power=power)
        # Each count is rounded once there and once here; the second factor enlarges the first.
        factor = (1 - problem.target) ** (power - 1)
        assert sizes * np.exp(settled.scored) == pytest.approx(sizes - scored, abs=1.5 + factor)
        again = Settling.of(problem)(settled.executed)
        assert again.executed == pytest.approx(settled.executed, abs=1e-9)


@pytest.mark.parametrize("power", [0.6, 0.75, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_slopes_come_back_as_central_differences(seed: int, power: float) -> None:
    problem = problem_with_bounds(seed, power)
    rng, budget, step = np.random.default_rng(seed + 100), Settling.of(problem), 1e-5
    for _ in range(3):
        wanted, slopes = wishes(problem, rng), rng.normal(size=len(problem.layers))
        moved = wanted + step * np.concatenate([np.eye(22), -np.eye(22)])
        at = budget(wanted)
        around = budget(moved)
        edges = (around.moves != at.moves) | (around.milder_moves != at.milder_moves)
        if edges.any():  # a bound lies within the step
            continue
        along = around.scored @ slopes
        numeric = (along[:22] - along[22:]) / (2 * step)
        assert budget.back(at, slopes) == pytest.approx(numeric, abs=1e-6)


def test_every_common_shift_of_the_wanted_densities_is_forgotten() -> None:
    problem = problem_with_bounds(3)
    rng, budget = np.random.default_rng(0), Settling.of(problem)
    wanted = wishes(problem, rng)
    shifted = budget(wanted - 0.7)
    assert shifted.scored == pytest.approx(budget(wanted).scored, abs=1e-9)
    back = budget.back(budget(wanted), rng.normal(size=22))
    assert back.sum() == pytest.approx(0, abs=1e-9)
    held = problem.lower == problem.upper
    assert (back[held] == 0).all()


def test_a_stack_of_targets_is_each_of_them() -> None:
    problems = [
        dataclasses.replace(problem_with_bounds(1), target=target) for target in (0.6, 0.9, 0.95)
    ]
    budgets, rng = [Settling.of(one) for one in problems], np.random.default_rng(1)
    wanted, slopes = rng.normal(-2.5, 0.6, (3, 22)), rng.normal(size=(3, 22))
    stack = Settling.stack(budgets)
    order = np.array([2, 0, 1])
    some = stack.rows(order)
    together = some(wanted)
    back = some.back(together, slopes)
    for row, target in enumerate(order.tolist()):
        alone = budgets[target](wanted[row])
        assert together.scored[row] == pytest.approx(alone.scored, abs=1e-12)
        assert together.executed[row] == pytest.approx(alone.executed, abs=1e-12)
        assert back[row] == pytest.approx(budgets[target].back(alone, slopes[row]), abs=1e-12)


@pytest.mark.parametrize("target", [0.02, 0.5, 0.9, 0.999])
def test_whole_profiles_of_extreme_wishes_meet_the_budget(target: float) -> None:
    problem, _ = synthetic_problem(target=target, upper=1.0)
    rng = np.random.default_rng(2)
    for spread in (0.0, 1.0, 10.0):
        wanted = rng.normal(np.log(1 - target), spread, 22)
        zeros = whole_profile(wanted, problem)
        assert zeros.sum() == problem.budget
        assert ((zeros >= 0) & (zeros <= problem.weights)).all()
        settled = Settling.of(problem)(wanted)
        assert np.isfinite(settled.scored).all()
        assert np.isfinite(Settling.of(problem).back(settled, np.ones(22))).all()


def test_an_empty_layer_is_half_a_weight() -> None:
    problem, _ = small_problem()
    zeros, sizes = problem.prior.copy(), problem.weights
    zeros[0] = sizes[0]
    assert log_densities(zeros, sizes)[0] == np.log(0.5 / sizes[0])
    assert np.exp(log_densities(zeros, sizes))[1:] == pytest.approx((1 - zeros / sizes)[1:])
    assert scored_point(zeros, problem) == pytest.approx(log_densities(zeros, sizes))  # power 1
