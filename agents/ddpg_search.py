"""DDPG search without a surrogate model: one episode over the layers per rollout."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from agents.ddpg_agent import DDPGAgent, transitions
from agents.ddpg_config import DDPGConfig
from agents.proposer import SEED, Proposal, Trial, ranked, seed_trials
from envs import (
    FEATURES,
    ActionMap,
    AllocationProblem,
    IntArray,
    Scale,
    Trajectory,
    project,
    replay_episode,
    run_episode,
)

__all__ = ["DDPGSearch"]


class DDPGSearch:
    """DDPG over the layers, as in PocketFlow and AMC (He et al., ECCV 2018).

    All profiles of a round come from the same actor. Action 0 stands for the best seed profile.
    All seed profiles are stored in the replay buffer as demonstrations. The last rollout follows
    the actor without exploration.

    Args:
        problem: The allocation problem.
        config: The agent's settings.
        seed: Seed of the agent.
        rollouts: Number of trials in total.
        rollouts_min: Number of exploration trials before training starts.
        scale: How actions map to ratios.
    """

    def __init__(
        self,
        problem: AllocationProblem,
        *,
        config: DDPGConfig,
        seed: int,
        rollouts: int,
        rollouts_min: int,
        scale: Scale = "log-density",
    ) -> None:
        self._problem, self._config, self._scale = problem, config, scale
        self._rollouts, self._rollouts_min = rollouts, rollouts_min
        self._agent = DDPGAgent(len(FEATURES), config=config, seed=seed)
        self._known = 0  # trials the agent has learned from

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Learn from the newest trials, then run one episode per proposal."""
        self._learn(history)
        left = self._rollouts - len(history)
        if left <= 1:
            return [Proposal("final", self._walk(explore=False))]
        kind = "agent" if len(history) >= self._rollouts_min else "warm-up"
        walks = (self._walk(explore=True) for _ in range(min(count, left - 1)))
        return [Proposal(kind, zeros) for zeros in walks]

    def state(self) -> dict[str, Any]:
        """Return the agent's state and the number of trials it has learned from."""
        return {"known": self._known, "agent": self._agent.state_bytes()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved agent."""
        self._known = state["known"]
        self._agent.restore(state["agent"])

    def _learn(self, history: Sequence[Trial]) -> None:
        start = ranked(seed_trials(history))[0].zeros
        centred = dataclasses.replace(self._problem, prior=start)
        self._centred, self._map = centred, ActionMap.of(centred, scale=self._scale)
        new = history[self._known :]
        for trial in new:
            if not trial.score.failed:
                path = self._path(trial.zeros)
                self._agent.observe(
                    transitions(path.observations, path.actions, reward=trial.score.reward),
                    demonstration=trial.kind == SEED,
                )
        self._known = len(history)
        if len(history) >= self._rollouts_min:
            self._agent.learn(self._config.ddpg_nb_updates * len(new))

    def _path(self, zeros: IntArray) -> Trajectory:
        return replay_episode(self._centred, self._map, zeros=zeros)

    def _walk(self, *, explore: bool) -> IntArray:
        """One profile proposed by the agent, projected onto the budget.

        Under the budget, an episode would leave what the first layers over- or underspend to
        the last ones; projection spreads it over all layers.
        """
        free = dataclasses.replace(self._centred, exact=False)
        path = run_episode(
            free, self._map, choose=lambda seen: self._agent.act(seen, explore=explore)
        )
        if not self._problem.exact:
            return path.zeros
        return project(
            path.zeros,
            budget=free.budget,
            lower=free.lower,
            upper=free.upper,
            weights=free.weights,
        )
