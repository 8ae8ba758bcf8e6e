"""An allocation problem with a known answer: the reward is minus a weighted sum of errors.

Layer sizes are ResNet-20's. A layer's relative error is (1 - d)^p after keeping a share d of its
weights; how much each error hurts is hidden from whoever searches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.budget import count_bounds, project
from envs.problem import AllocationProblem, FloatArray, IntArray, LayerRow, Score

CURVE_RATIOS = np.array([0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 1.0])


def resnet20_rows() -> tuple[LayerRow, ...]:
    shapes = [(16, 3, 3, 3)] + [(16, 16, 3, 3)] * 6
    shapes += [(32, 16, 3, 3), (32, 32, 3, 3), (32, 16, 1, 1)] + [(32, 32, 3, 3)] * 4
    shapes += [(64, 32, 3, 3), (64, 64, 3, 3), (64, 32, 1, 1)] + [(64, 64, 3, 3)] * 4
    shapes += [(10, 64)]
    area = [1024] * 7 + [256] * 7 + [64] * 7 + [1]
    return tuple(
        LayerRow(
            name=f"layer{i}.weight",
            kind="conv2d" if len(shape) == 4 else "linear",
            role="conv" if len(shape) == 4 else "head",
            shape=shape,
            weights=int(np.prod(shape)),
            macs=int(np.prod(shape)) * area[i],
        )
        for i, shape in enumerate(shapes)
    )


class Separable:
    """reward = -sum_i hurt_i (1 - density_i)^power_i, counting its evaluations."""

    def __init__(self, weights: IntArray, *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.weights = weights
        self.power = rng.uniform(4.0, 30.0, len(weights))
        # Early layers hurt more, as in a real network, and chance has its part.
        depth = np.linspace(0.5, -0.5, len(weights))
        self.hurt = np.exp(depth + rng.normal(0.0, 0.7, len(weights))) / len(weights)
        self.evaluations = 0

    def error(self, density: FloatArray) -> FloatArray:
        return (1.0 - density) ** self.power

    def reward(self, zeros: IntArray) -> float:
        return -float(self.hurt @ self.error(1.0 - zeros / self.weights))

    def __call__(self, candidates: Sequence[IntArray]) -> list[Score]:
        self.evaluations += len(candidates)
        return [
            Score(reward=self.reward(z), accuracy=0.0, accuracy_before=0.0, divergence=0.0)
            for z in candidates
        ]


def synthetic_problem(
    *, target: float = 0.95, seed: int = 0, upper: float = 0.995, every: int = 1
) -> tuple[AllocationProblem, Separable]:
    """Return the problem, its prior being the uniform profile, and its evaluator.

    `every` = 3 takes every third layer: shorter episodes.
    """
    layers = resnet20_rows()[::every]
    weights = np.array([row.weights for row in layers], np.int64)
    evaluator = Separable(weights, seed=seed)
    lower, upper_counts = count_bounds(0.0, upper, weights)
    budget = round(target * int(weights.sum()))
    prior = project(
        weights * target, budget=budget, lower=lower, upper=upper_counts, weights=weights
    )
    curves = np.stack([evaluator.error(1.0 - np.full(len(layers), r)) for r in CURVE_RATIOS], 1)
    problem = AllocationProblem(
        layers=layers,
        target=target,
        lower=lower,
        upper=upper_counts,
        prior=prior,
        curve_ratios=CURVE_RATIOS,
        curves=curves,
        evaluate=evaluator,
    )
    return problem, evaluator
