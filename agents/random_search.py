"""Random search around the best closed-form profile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.logits import LogitSpace
from agents.proposer import Proposal, Stateless, Trial, generator, ranked, seed_trials
from envs import AllocationProblem

__all__ = ["RandomSearch"]


class RandomSearch(Stateless):
    """Normal noise on the log-densities of all layers, projected exactly onto the budget.

    It does not learn from scores and serves as a control: uniform random candidates came within
    0.3 points of a DDPG search in published notebooks (Distiller, amc-resnet20).

    Args:
        problem: The allocation problem.
        seed: Seed; the same seed and history give the same proposals.
        spread: Standard deviation of the noise, in units of ln(density).
    """

    def __init__(self, problem: AllocationProblem, *, seed: int, spread: float = 0.3) -> None:
        self._space, self._seed, self._spread = LogitSpace(problem), seed, spread

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Return `count` new random profiles."""
        rng, space = generator(self._seed, history), self._space
        centre = ranked(seed_trials(history))[0].zeros
        noise = rng.normal(0.0, self._spread, (count, space.size))
        everything = np.arange(space.size)
        return [
            Proposal("random", space.decode(point, around=centre, moving=everything))
            for point in space.encode(centre) + noise
        ]
