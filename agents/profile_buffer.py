"""Replay buffer of whole profiles: one entry per rollout, of any target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer

from agents.critic import Observed
from agents.settle import scored_point
from envs import AllocationProblem, IntArray, Score, log_densities

__all__ = ["ProfileBuffer", "observed"]

_LEAST_REWARD = 1e-6


def observed(zeros: IntArray, score: Score, problem: AllocationProblem) -> Observed | None:
    """What a rollout teaches the critic; None if it failed.

    The value is the divergence where the reward measures it, otherwise -ln(reward), without slopes.
    """
    if score.failed:
        return None
    point, executed = scored_point(zeros, problem), log_densities(zeros, problem.weights)
    unknown = np.full(len(point), np.nan)
    if not problem.by_divergence or score.divergence is None:
        value = -float(np.log(max(score.reward, _LEAST_REWARD)))
        return Observed(point=point, executed=executed, value=value, slopes=unknown)
    slopes = unknown if score.slopes is None else np.array(score.slopes, np.float64)
    return Observed(point=point, executed=executed, value=score.divergence, slopes=slopes)


class ProfileBuffer(ReplayBuffer):
    """Replay buffer that also keeps the executed profile, score and slopes of every episode.

    The agent learns from `seen`. Single transitions are kept as in stable-baselines3.

    Attributes:
        seen: The scored profiles, oldest first.
        problem: Problem of any target, to interpret profiles; set by the agent.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[Observed] = []
        self.problem: AllocationProblem | None = None

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Add one transition; at the end of an episode, its profile."""
        super().add(obs, next_obs, action, reward, done, infos)
        for info in infos:
            if "score" in info:
                self.remember(info["zeros"], info["score"])

    def interpret(self, problem: AllocationProblem) -> None:
        """Take `problem` from now on; profiles of another network are dropped."""
        sizes = problem.weights
        other = any(len(one.point) != len(sizes) for one in self.seen)
        if self.problem is not None:
            other = other or not np.array_equal(self.problem.weights, sizes)
        if other:
            self.seen.clear()
        self.problem = problem

    def remember(self, zeros: IntArray, score: Score) -> None:
        """Add a scored profile of any target; a failed one is left out."""
        assert self.problem is not None
        found = observed(zeros, score, self.problem)
        if found is not None:
            self.seen.append(found)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the problem, whose `evaluate` may hold a network and a data set."""
        return self.__dict__ | {"problem": None}
