"""Model and agent together: hundreds of profiles are imagined, a few are rolled out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.ddpg_search import DDPGSearch
from agents.logits import LogitSpace
from agents.proposer import Proposal, Trial, generator, ranked, step_size
from agents.surrogate import Surrogate, neighbours
from envs import AllocationProblem, FloatArray, IntArray

__all__ = ["OptimalSearch"]


class OptimalSearch(DDPGSearch):
    """DDPG that thinks before it acts: many proposals are judged for each that is rolled out.

    In every round

    - the actor walks through the layers, once without noise and a few times with (kind `agent`);
    - the best profiles so far are mutated and crossed (kind `model`);
    - the model, a Gaussian process that compares profiles by their logit-densities and by what
      the layers' error curves say of them, chooses those of greatest expected improvement.

    What they score teaches both. Before `rollouts_min` trials the agent is neither trained nor
    asked. The last rollout is the candidate that the model expects most of, without any bonus
    for uncertainty. After Dyna (Sutton, 1991), evolution that an agent takes part in (Khadka &
    Tumer, NeurIPS 2018) and TuRBO (Eriksson et al., NeurIPS 2019).

    Args:
        problem: What is searched.
        seed: Everything random follows from it and the history.
        candidates: Proposals imagined in a round.
        step: First radius of the trust region, in units of logit-density.
        walks: Walks of the actor in a round; 0 leaves the agent out altogether.
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
        """Learn from the newest trials, imagine many profiles, return the most promising."""
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
        """Points of the actor's walks, (walks, D), the one without noise first."""
        walks = [self._walk(explore=number > 0) for number in range(self._walks)]
        return self._space.encode(np.stack(walks))

    def _imagine(self, history: Sequence[Trial], model: Surrogate, own: FloatArray) -> FloatArray:
        """All candidates, the actor's first."""
        step = step_size(history, start=self._step, least=0.3, most=1.5)
        rng = generator(self._seed, history)
        drawn = neighbours(model.points, count=self._candidates, step=step, rng=rng)
        return np.vstack([own, self._space.settle(drawn)])

    def _decoded(self, history: Sequence[Trial], points: FloatArray) -> list[IntArray]:
        around, everything = ranked(history)[0].zeros, np.arange(self._space.size)
        return [self._space.decode(point, around=around, moving=everything) for point in points]
