"""The agent, its critic and a model together: all propose or judge, the best few are rolled out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.ddpg_search import DDPGSearch
from agents.logits import LogitSpace
from agents.proposer import Proposal, Trial, generator, ranked, step_size
from agents.surrogate import Surrogate, neighbours
from envs.problem import AllocationProblem, FloatArray, IntArray

__all__ = ["OptimalSearch"]


class OptimalSearch(DDPGSearch):
    """DDPG that thinks before it acts: hundreds of proposals are judged for a few roll-outs.

    In every round

    - the actor walks through the layers, once without noise and a few times with (kind `agent`);
    - the best profiles so far and the actor's own are mutated and crossed (kind `model`);
    - a Gaussian process on logit-densities makes a shortlist of all of them;
    - the critic, which sees layer sizes and error curves where the process sees distances only,
      ranks the shortlist too, and the profiles of the best sum of both ranks are rolled out.

    What they score teaches both. Before `rlouts_min` trials the agent is not trained and not
    asked, and what the process proposes is of kind `warm-up`. The last roll-out is the candidate
    that the process expects most of, without any bonus for uncertainty. After Dyna (Sutton,
    1991), evolution guided by a critic (Khadka & Tumer, NeurIPS 2018) and TuRBO (Eriksson et
    al., NeurIPS 2019).

    Args:
        problem: What is searched.
        seed: Everything random follows from it and the history.
        candidates: Proposals screened in a round.
        step: First radius of the trust region, in units of logit-density.
        walks: Walks of the actor in a round.
        shortlist: Profiles the critic sees, for each that is rolled out.
        options: As for `DDPGSearch`.
    """

    def __init__(
        self,
        problem: AllocationProblem,
        *,
        seed: int,
        candidates: int = 600,
        step: float = 1.0,
        walks: int = 4,
        shortlist: int = 4,
        **options: Any,
    ) -> None:
        super().__init__(problem, seed=seed, **options)
        self._space, self._seed = LogitSpace(problem), seed
        self._candidates, self._step = candidates, step
        self._walks, self._shortlist = walks, shortlist

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Learn from the newest trials, propose many profiles, return the most promising."""
        self._learn(history)
        trained, left = len(history) >= self._rlouts_min, self._rlouts - len(history)
        model = Surrogate(self._space, history)
        own = self._own() if trained else np.empty((0, self._space.size))
        pool = self._pool(history, model, own)
        if left <= 1:
            best = pool[[int(np.argmax(model.expect(pool)))]]
            return [Proposal("final", zeros) for zeros in self._decoded(history, best)]
        count = min(count, left - 1)
        if not trained:
            rows = model.select(pool, count=count)
            return [Proposal("warm-up", zeros) for zeros in self._decoded(history, pool[rows])]
        rows = model.select(pool, count=min(self._shortlist * count, len(pool)))
        profiles = self._decoded(history, pool[rows])
        return [
            Proposal("agent" if rows[place] < len(own) else "model", profiles[place])
            for place in self._agreed(profiles)[:count]
        ]

    def _own(self) -> FloatArray:
        """Points of the actor's walks, (walks, D), the one without noise first."""
        walks = [self._walk(explore=number > 0) for number in range(self._walks)]
        return self._space.encode(np.stack(walks))

    def _pool(self, history: Sequence[Trial], model: Surrogate, own: FloatArray) -> FloatArray:
        """All candidates, the actor's first."""
        step = step_size(history, start=self._step, least=0.05, most=1.5)
        parents = np.vstack([model.points[:1], own[:1], model.points[1:]])
        rng = generator(self._seed, history)
        drawn = neighbours(parents, count=self._candidates, step=step, rng=rng)
        return np.vstack([own, self._space.settle(drawn)])

    def _decoded(self, history: Sequence[Trial], points: FloatArray) -> list[IntArray]:
        around, everything = ranked(history)[0].zeros, np.arange(self._space.size)
        return [self._space.decode(point, around=around, moving=everything) for point in points]

    def _agreed(self, profiles: Sequence[IntArray]) -> list[int]:
        """Places of profiles, which come in the model's order, by the sum of both judges' ranks."""
        paths = [self._path(zeros) for zeros in profiles]
        worth = [self._agent.worth(path.observations, path.actions) for path in paths]
        critic = np.argsort(np.argsort(-np.array(worth), kind="stable"))
        order: list[int] = np.argsort(critic + np.arange(len(worth)), kind="stable").tolist()
        return order
