"""Evolutionary search: mutations move density between a few layers of the best profile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.logits import LogitSpace
from agents.proposer import Proposal, Stateless, Trial, generator, ranked, step_size
from envs import AllocationProblem, IntArray

__all__ = ["Evolution"]

_ATTEMPTS = 8


class Evolution(Stateless):
    """(1 + lambda) evolution strategy; lambda is the number of profiles scored in a round.

    As in EvoPress (Sieberling et al., ICML 2025) a mutation raises some layers and lowers others
    so that the budget is kept; the other layers are unchanged. Unlike there, levels are
    continuous: a step is normal in logit-density, and its size follows the one-fifth success
    rule.

    Args:
        problem: The allocation problem.
        seed: Seed; the same seed and history give the same proposals.
        step: Initial standard deviation of mutations, in units of logit-density.
    """

    def __init__(self, problem: AllocationProblem, *, seed: int, step: float = 0.5) -> None:
        self._space, self._seed, self._step = LogitSpace(problem), seed, step

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Return `count` mutants of the best profile, new ones where possible."""
        rng, parent = generator(self._seed, history), ranked(history)[0].zeros
        seen = {trial.zeros.tobytes() for trial in history}
        step = step_size(history, start=self._step, least=0.05, most=1.5)
        proposals = []
        for _ in range(count):
            for _ in range(_ATTEMPTS):
                child = self._mutant(parent, step, rng)
                if child.tobytes() not in seen:
                    break
            seen.add(child.tobytes())
            proposals.append(Proposal("mutation", child))
        return proposals

    def _mutant(self, parent: IntArray, step: float, rng: np.random.Generator) -> IntArray:
        size = self._space.size
        few = min(size, 2 + rng.geometric(0.5) - 1)  # 2, sometimes 3 or more
        moving = rng.choice(size, few, replace=False)
        point = self._space.encode(parent)
        point[moving] += rng.normal(0.0, step, few)
        return self._space.decode(point, around=parent, moving=moving)
