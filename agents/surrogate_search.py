"""The `surrogate` search: DDPG and a Gaussian process screen candidates before each rollout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.ddpg_search import DDPGSearch
from agents.logits import LogitSpace
from agents.proposer import Proposal, Trial, generator, ranked, step_size
from agents.surrogate import Surrogate, neighbours
from envs import AllocationProblem, FloatArray, IntArray

__all__ = ["SurrogateSearch"]


class SurrogateSearch(DDPGSearch):
    """DDPG with a surrogate model: many candidates are predicted, the best get a rollout.

    In every round:

    - the actor proposes profiles, one without noise and a few with noise (kind `agent`);
    - mutation and crossover of the best profiles propose more (kind `model`);
    - a Gaussian process on logit-densities and on the layers' errors, read from their error
      curves, selects the proposals of greatest expected improvement.

    Agent and model both learn from the scores. Before `rollouts_min` trials the agent is neither
    trained nor used. The last rollout is the candidate of the highest predicted reward, without a
    bonus for uncertainty. Follows Dyna (Sutton, 1991), evolution with an agent (Khadka &
    Tumer, NeurIPS 2018) and TuRBO (Eriksson et al., NeurIPS 2019).

    Args:
        problem: The allocation problem.
        seed: Seed of the agent and the proposals.
        candidates: Number of candidates predicted in a round.
        step: Initial radius of the trust region, in units of logit-density.
        walks: Number of actor proposals in a round; 0 disables the agent.
        options: As for `DDPGSearch`.
    """

    def __init__(
        self,
        problem: AllocationProblem,
        *,
        seed: int,
        candidates: int = 200,
        step: float = 1.0,
        walks: int = 4,
        **options: Any,
    ) -> None:
        super().__init__(problem, seed=seed, **options)
        self._space, self._seed = LogitSpace(problem), seed
        self._candidates, self._step, self._walks = candidates, step, walks

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Learn from the newest trials, predict many candidates, return the most promising."""
        if self._walks:
            self._learn(history)
        left = self._rollouts - len(history)
        asked = self._walks and len(history) >= self._rollouts_min
        model = Surrogate(self._space, history, by_errors=True)
        own = self._own() if asked else np.empty((0, self._space.size))
        pool = self._imagine(history, model, own)
        if left <= 1:
            best = pool[[int(np.argmax(model.expect(pool)))]]
            return [Proposal("final", zeros) for zeros in self._decoded(history, best)]
        rows = model.select(pool, count=min(count, left - 1))
        kinds = ["agent" if row < len(own) else "model" for row in rows]
        return list(map(Proposal, kinds, self._decoded(history, pool[rows])))

    def _own(self) -> FloatArray:
        """Points proposed by the actor, (walks, D), the one without noise first."""
        walks = [self._walk(explore=number > 0) for number in range(self._walks)]
        return self._space.encode(np.stack(walks))

    def _imagine(self, history: Sequence[Trial], model: Surrogate, own: FloatArray) -> FloatArray:
        """All candidate points, the actor's first."""
        step = step_size(history, start=self._step, least=0.3, most=1.5)
        rng = generator(self._seed, history)
        drawn = neighbours(model.points, count=self._candidates, step=step, rng=rng)
        return np.vstack([own, self._space.settle(drawn)])

    def _decoded(self, history: Sequence[Trial], points: FloatArray) -> list[IntArray]:
        around, everything = ranked(history)[0].zeros, np.arange(self._space.size)
        return [self._space.decode(point, around=around, moving=everything) for point in points]
