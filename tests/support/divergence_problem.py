"""A problem whose divergence is a priced sum of known curves, with slopes, for any target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from envs.budget import project
from envs.milder import as_scored
from envs.own_curves import OwnCurves
from envs.problem import AllocationProblem, FloatArray, IntArray, Score
from tests.support.synthetic_problem import synthetic_problem

DENSITIES = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7])
POWER = 0.75


class Priced:
    """KL = sum_i price_i c_i at the profile as scored, counting its evaluations."""

    def __init__(self, curves: OwnCurves, prices: FloatArray, *, slopes: bool = True) -> None:
        self.curves, self.prices, self.slopes = curves, prices, slopes
        self.evaluations = 0

    def point(self, zeros: IntArray) -> FloatArray:
        sizes = self.curves.weights
        scored = as_scored(zeros, sizes, power=POWER)
        point: FloatArray = np.log(np.maximum(sizes - scored, 0.5) / sizes)
        return point

    def divergence(self, zeros: IntArray) -> float:
        return float(self.curves(self.point(zeros))[0] @ self.prices)

    def score(self, zeros: IntArray) -> Score:
        divergence = self.divergence(zeros)
        slopes = self.prices * self.curves(self.point(zeros))[1]
        return Score(
            reward=float(np.exp(-divergence)),
            accuracy=0.0,
            accuracy_before=0.0,
            divergence=divergence,
            slopes=tuple(slopes.tolist()) if self.slopes else None,
        )

    def __call__(self, candidates: Sequence[IntArray]) -> list[Score]:
        self.evaluations += len(candidates)
        return [self.score(zeros) for zeros in candidates]


def curves_for(sizes: IntArray, seed: int) -> OwnCurves:
    """Own divergences that rise by a power of the weights removed; sizes differ by layer."""
    rng = np.random.default_rng([seed, 1])
    hurt = np.exp(rng.normal(-2.0, 0.7, len(sizes)))[:, None]
    power = rng.uniform(3.0, 12.0, len(sizes))[:, None]
    return OwnCurves(DENSITIES, hurt * (1 - DENSITIES) ** power, sizes)


def divergence_problem(
    *, target: float = 0.9, seed: int = 0, every: int = 3, misleading: float = 1.0
) -> tuple[AllocationProblem, Callable[[float], AllocationProblem], Priced]:
    """A problem, the same at other targets, and its evaluator.

    The prior is the projection of a uniform profile; ln prices have a standard deviation of
    `misleading`. The last layer is exempt.
    """
    plain, _ = synthetic_problem(target=target, every=every, upper=0.99)
    sizes = plain.weights
    curves = curves_for(sizes, seed)
    prices = np.exp(np.random.default_rng([seed, 2]).normal(0, misleading, len(sizes)))
    evaluator = Priced(curves, prices)
    lower, upper = plain.lower.copy(), plain.upper.copy()
    upper[-1] = 0

    def at(aim: float) -> AllocationProblem:
        budget = round(aim * int(sizes.sum()))
        prior = project(sizes * aim, budget=budget, lower=lower, upper=upper, weights=sizes)
        return dataclasses.replace(
            plain,
            target=aim,
            lower=lower,
            upper=upper,
            prior=prior,
            evaluate=evaluator,
            own_densities=DENSITIES,
            own=curves.values,
            score_power=POWER,
            by_divergence=True,
        )

    return at(target), at, evaluator


def least_divergence(problem: AllocationProblem, evaluator: Priced) -> float:
    """Least divergence on the budget: greedy over single swaps of blocks, from many starts.

    The priced sum is minimised by moving weights between pairs of layers until nothing helps.
    """
    sizes, rng = problem.weights, np.random.default_rng(0)
    best = np.inf
    for _ in range(3):
        start = np.clip(sizes * (problem.target + rng.normal(0, 0.02, len(sizes))), 0, sizes)
        zeros = project(
            start,
            budget=problem.budget,
            lower=problem.lower,
            upper=problem.upper,
            weights=sizes,
        )
        here = evaluator.divergence(zeros)
        block = int(sizes.sum()) // 50
        while block:
            moved = False
            for give in range(len(sizes)):
                for take in range(len(sizes)):
                    there = zeros.copy()
                    there[give] -= block
                    there[take] += block
                    if (there < problem.lower).any() or (there > problem.upper).any():
                        continue
                    value = evaluator.divergence(there)
                    if value < here - 1e-9:
                        zeros, here, moved = there, value, True
            if not moved:
                block //= 3
            if block < 20:
                break
        best = min(best, here)
    return best
