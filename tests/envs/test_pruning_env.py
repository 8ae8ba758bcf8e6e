"""The gymnasium view: both checkers pass, and a stock agent learns on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs.problem import IntArray, Score
from envs.pruning_env import ENV_ID, PruningEnv, register
from tests.support.synthetic_problem import synthetic_problem


def test_both_environment_checkers_pass() -> None:
    register()
    register()
    problem, _ = synthetic_problem()
    env = gymnasium.make(ENV_ID, problem=problem)
    check_env(env.unwrapped)
    sb3_check_env(env.unwrapped)


def test_the_reward_comes_once_with_the_score() -> None:
    problem, evaluator = synthetic_problem()
    env = PruningEnv(problem)
    env.reset(seed=0)
    rewards, ended, info = [], False, {}
    while not ended:
        _, reward, ended, cut, info = env.step(np.array([0.2], np.float32))
        rewards.append(reward)
        assert not cut
        assert -1 <= info["executed_action"] <= 1
        assert ended == ("score" in info)
    assert len(rewards) == len(problem.layers)
    assert rewards[:-1] == [0.0] * (len(rewards) - 1)
    assert rewards[-1] == info["score"].reward == evaluator.reward(info["zeros"])
    assert info["zeros"].sum() == problem.budget
    assert evaluator.evaluations == 1


def test_a_candidate_that_failed_ends_like_any_other() -> None:
    def fail(candidates: Sequence[IntArray]) -> list[Score]:
        bad = Score(reward=-9.0, accuracy=0, accuracy_before=0, divergence=9, failed="diverged")
        return [bad for _ in candidates]

    problem, _ = synthetic_problem()
    env = PruningEnv(replace(problem, evaluate=fail))
    env.reset()
    for _ in problem.layers:
        _, reward, ended, _, info = env.step(np.zeros(1, np.float32))
    assert ended
    assert reward == -9.0
    assert info["score"].failed == "diverged"


def test_a_problem_without_choice_is_refused() -> None:
    problem, _ = synthetic_problem()
    with pytest.raises(ValueError, match="no layer has a choice"):
        PruningEnv(replace(problem, lower=problem.prior, upper=problem.prior))


@pytest.mark.long
def test_a_stock_agent_learns_on_it() -> None:
    problem, evaluator = synthetic_problem(seed=1, every=3)
    returns: list[float] = []

    class Watched(PruningEnv):
        def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, Any]:
            seen = super().step(action)
            if seen[2]:
                returns.append(seen[1])
            return seen

    agent = stable_baselines3.PPO(
        "MlpPolicy",
        Watched(problem),
        n_steps=len(problem.layers) * 20,
        batch_size=len(problem.layers) * 20,
        learning_rate=3e-3,
        gamma=1.0,
        gae_lambda=1.0,
        policy_kwargs={"net_arch": [32], "log_std_init": -1.0},
        seed=0,
        device="cpu",
    )
    agent.learn(len(problem.layers) * 240)
    assert len(returns) == evaluator.evaluations == 240
    first, last = np.array(returns[:40]), np.array(returns[-40:])
    spread = np.sqrt(first.var() / 40 + last.var() / 40)
    assert last.mean() > first.mean() + 2 * spread
