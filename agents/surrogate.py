"""Surrogate model: predicts candidates so that only promising ones get a rollout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from agents.gaussian_process import GaussianProcess, Views
from agents.logits import LogitSpace
from agents.proposer import Trial, ranked
from envs import FloatArray

__all__ = ["Surrogate", "expected_improvement", "neighbours"]

_TRIALS = 300  # the model's run time is cubic in their number
_ELITE = 8


def neighbours(
    ranks: FloatArray, *, count: int, step: float, rng: np.random.Generator
) -> FloatArray:
    """Return mutants of the best points, a quarter of them crossovers.

    A mutant takes normal steps in a random subset of coordinates; steps are longer if it is small.
    A crossover takes each coordinate from one of two good points and adds a tenth of a step.

    Args:
        ranks: (N, D) points, best first; better points have more children.
        count: Number of children.
        step: Standard deviation of a child that moves in two coordinates.
        rng: Random generator.

    Returns:
        (count, D) points, not yet projected onto bounds and budget.
    """
    elite, size = ranks[:_ELITE], ranks.shape[1]
    shape = (count, size)
    parents = elite[np.minimum(rng.geometric(0.5, count) - 1, len(elite) - 1)]
    moved = rng.integers(1, size + 1, (count, 1))
    moving = rng.random(shape) < moved / size
    lengths = step * rng.uniform(0.3, 1.0, (count, 1)) * np.sqrt(2 / np.maximum(moved, 2))
    children: FloatArray = parents + moving * lengths * rng.normal(size=shape)
    crossed = count // 4
    mates = elite[rng.integers(0, len(elite), crossed)]
    mixed = np.where(rng.random((crossed, size)) < 0.5, parents[:crossed], mates)
    children[:crossed] = mixed + 0.1 * step * rng.normal(size=(crossed, size))
    return children


def expected_improvement(mean: FloatArray, std: FloatArray, best: float) -> FloatArray:
    """Return the expected improvement of a normal variable over `best`.

    J. Mockus, "On Bayesian methods for seeking the extremum", 1975.
    """
    z = (mean - best) / std
    gain: FloatArray = std * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
    return gain


class Surrogate:
    """Gaussian process over profiles, fitted to the best trials of a history.

    The inputs are logit-densities and, with `by_errors`, each layer's error from the error curves.
    Profiles are then similar if their ratios or their layer errors are similar.

    Args:
        space: The coordinates.
        history: Trials; failed ones are ignored.
        by_errors: Use the error curves as a second view.
    """

    def __init__(
        self, space: LogitSpace, history: Sequence[Trial], *, by_errors: bool = False
    ) -> None:
        self._space, self._by_errors = space, by_errors
        trials = ranked(history)[:_TRIALS]
        self.points = space.encode(np.stack([trial.zeros for trial in trials]))
        """(N, D) trials used to fit the model, best first."""
        rewards = np.array([trial.score.reward for trial in trials])
        self._values = (rewards - rewards.mean()) / max(float(rewards.std()), 1e-12)
        self._model = GaussianProcess.fit(self._views(self.points), self._values)

    def expect(self, points: FloatArray) -> FloatArray:
        """Return the predicted reward (M,) at points (M, D), standardised."""
        return self._model.predict(self._views(points))[0]

    def improvement(self, points: FloatArray) -> FloatArray:
        """Return the expected improvement (M,) over the best trial at points (M, D)."""
        mean, std = self._model.predict(self._views(points))
        return expected_improvement(mean, std, float(self._values.max()))

    def _views(self, points: FloatArray) -> Views:
        return (points, self._space.errors(points)) if self._by_errors else (points,)

    def select(self, points: FloatArray, *, count: int) -> list[int]:
        """Return the rows of `points` to try, in order of choice.

        Each has the greatest expected improvement when all earlier choices are assumed to score
        their prediction ("kriging believer": Ginsbourger et al. 2010), which spreads the choices.

        Args:
            points: (M, D) candidates, M at least `count`.
            count: Number of points to choose.
        """
        model, values, chosen = self._model, self._values, list[int]()
        views = self._views(points)
        for _ in range(count):
            mean, std = model.predict(views)
            gain = expected_improvement(mean, std, float(self._values.max()))
            gain[chosen] = -np.inf
            chosen.append(int(np.argmax(gain)))
            values = np.append(values, mean[chosen[-1]])
            model = GaussianProcess.given(
                tuple(
                    np.vstack([known, new[chosen[-1]]])
                    for known, new in zip(model.views, views, strict=True)
                ),
                values,
                lengths=model.lengths,
                noise=model.noise,
            )
        return chosen
