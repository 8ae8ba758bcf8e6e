"""Bayesian optimisation of prune ratios in a trust region around the best profiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.logits import LogitSpace
from agents.proposer import Proposal, Stateless, Trial, generator, ranked, step_size
from agents.surrogate import Surrogate, neighbours
from envs import AllocationProblem

__all__ = ["BayesianSearch"]


class BayesianSearch(Stateless):
    """Trust-region Bayesian optimisation: a Gaussian process on logit-densities.

    As in TuRBO (Eriksson et al., NeurIPS 2019) candidates are drawn around the best profiles,
    within a radius that grows with success and shrinks with failure. Those of greatest expected
    improvement are evaluated by a rollout.

    Args:
        problem: The allocation problem.
        seed: Seed; the same seed and history give the same proposals.
        candidates: Proposals scored by the model for each profile that gets a rollout.
        step: Initial radius of the trust region, in units of logit-density.
    """

    def __init__(
        self, problem: AllocationProblem, *, seed: int, candidates: int = 600, step: float = 1.0
    ) -> None:
        self._space, self._seed = LogitSpace(problem), seed
        self._candidates, self._step = candidates, step

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Return the `count` most promising of all candidates."""
        rng, space = generator(self._seed, history), self._space
        model = Surrogate(space, history)
        step = step_size(history, start=self._step, least=0.05, most=1.5)
        drawn = neighbours(model.points, count=self._candidates, step=step, rng=rng)
        settled = space.settle(drawn)
        around, everything = ranked(history)[0].zeros, np.arange(space.size)
        return [
            Proposal("model", space.decode(settled[row], around=around, moving=everything))
            for row in model.select(settled, count=count)
        ]
