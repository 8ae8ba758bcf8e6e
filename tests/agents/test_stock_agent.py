"""A stock stable-baselines3 agent learns on the environment of the goal-conditioned one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.noise import NormalActionNoise

from agents.proposer import SEED
from agents.random_search import RandomSearch
from envs.offset_map import OffsetMap
from envs.problem import AllocationProblem
from envs.pruning_env import PruningEnv
from tests.support.slope_nets import real_problem, slope_evaluator, trained
from ws_learner.search.history import Rollout

ROLLOUTS = 150


def by_random(problem: AllocationProblem, seed: int) -> float:
    """Best reward of random search, the prior among its rollouts."""
    proposer, history = RandomSearch(problem, seed=seed), []
    profiles = [(SEED, problem.prior)]
    while len(history) < ROLLOUTS:
        scores = problem.evaluate([zeros for _, zeros in profiles])
        for (kind, zeros), score in zip(profiles, scores, strict=True):
            history.append(Rollout(kind=kind, zeros=zeros, score=score))
        profiles = [
            (one.kind, one.zeros)
            for one in proposer.propose(history, min(8, ROLLOUTS - len(history)))
        ] or profiles
    return max(one.score.reward for one in history)


def by_agent(problem: AllocationProblem, seed: int) -> tuple[float, float, float]:
    """Best reward of a stock DDPG with its own networks, and mean of its first and last tenth."""
    rewards: list[float] = []

    class Watched(PruningEnv):
        def step(self, action: Any) -> Any:
            seen = super().step(action)
            if seen[2]:
                rewards.append(seen[1])
            return seen

    env = Watched(problem, OffsetMap.of, spend="last step")
    agent = stable_baselines3.DDPG(
        "MlpPolicy",
        env,
        learning_starts=20 * env._episode.steps,
        train_freq=(1, "episode"),
        gradient_steps=60,
        gamma=1.0,
        batch_size=128,
        learning_rate=3e-4,
        policy_kwargs={"net_arch": [64, 64]},
        action_noise=NormalActionNoise(np.zeros(1), np.full(1, 0.1)),
        seed=seed,
        device="cpu",
    )
    agent.learn(ROLLOUTS * env._episode.steps)
    assert len(rewards) == ROLLOUTS
    tenth = ROLLOUTS // 10
    return max(rewards), float(np.mean(rewards[:tenth])), float(np.mean(rewards[-tenth:]))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "target"), [("conv", 0.9), ("mlp", 0.95), ("transformer", 0.75)])
def test_a_stock_agent_learns_on_real_networks(kind: str, target: float) -> None:
    evaluator = slope_evaluator(trained(kind), score_power=0.75, nb_smpls_slope=0)
    problem = real_problem(evaluator, target=target)
    ahead, rises = [], []
    for seed in range(3):
        best, first, last = by_agent(problem, seed)
        other = by_random(problem, seed)
        ahead.append(best - other)
        rises.append(last - first)
        print(f"{kind} seed {seed}: best {best:.4f}, random {other:.4f}, {first:.4f} -> {last:.4f}")
    assert min(rises) > 0
    if kind != "transformer":  # there random search wins
        assert np.mean(ahead) > 0
