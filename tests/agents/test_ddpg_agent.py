"""The agent: exact continuation, its own random numbers, honest targets, and that it learns."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents.ddpg_agent import DDPGAgent, Transition, transitions
from agents.ddpg_config import DDPGConfig
from agents.exploration import truncated_normal
from envs.action_map import ActionMap
from envs.episode import run_episode
from envs.features import FEATURES
from envs.problem import AllocationProblem
from tests.support.synthetic_problem import synthetic_problem

SMALL = DDPGConfig(
    ddpg_actor_width=16,
    ddpg_critic_width=16,
    ddpg_nb_updates=3,
    ddpg_batch_size=8,
    ddpg_buffer_size=50,
    ddpg_nb_rlouts_rand=2,
)
STEPS, SEEN = 4, 3


def rollout(agent: DDPGAgent, number: int, *, explore: bool = True) -> list[float]:
    """Four steps of a toy whose observation is fixed by rollout, step and last action."""
    actions, seen = [], [np.full(SEEN, number / 40, np.float32)]
    for step in range(STEPS):
        actions.append(agent.act(seen[-1], explore=explore))
        seen.append(np.array([number / 40, step / STEPS, actions[-1]], np.float32))
    reward = -float(np.square(np.array(actions) - 0.3).sum())
    agent.observe(transitions(np.stack(seen), np.array(actions), reward=reward))
    agent.learn()
    return actions


def weights(agent: DDPGAgent) -> list[NDArray[np.float32]]:
    parts = agent._parts()
    networks = ("actor", "actor_target", "critic", "critic_target")
    return [v.numpy().copy() for name in networks for v in parts[name].state_dict().values()]


def disturb() -> None:
    """What somebody else in the process might do."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


@pytest.mark.long
def test_ten_and_ten_rollouts_are_twenty_to_the_last_bit() -> None:
    whole = DDPGAgent(SEEN, config=SMALL, seed=7)
    expected = [rollout(whole, k) for k in range(20)]

    first = DDPGAgent(SEEN, config=SMALL, seed=7)
    actions = [rollout(first, k) for k in range(10)]
    saved = first.state_bytes()
    disturb()
    second = DDPGAgent(SEEN, config=SMALL, seed=999)
    second.restore(saved)
    assert second.rollouts == 10
    actions += [rollout(second, k) for k in range(10, 20)]

    assert actions == expected
    for ours, theirs in zip(weights(second), weights(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert second.state_bytes() == whole.state_bytes()


def test_nobody_else_changes_its_numbers_and_it_changes_nobodys() -> None:
    quiet, busy = (DDPGAgent(SEEN, config=SMALL, seed=3) for _ in range(2))
    expected = [rollout(quiet, k) for k in range(6)]
    actions = []
    for k in range(6):
        disturb()
        outside = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        actions.append(rollout(busy, k))
        assert random.getstate() == outside[0]
        assert np.random.get_state()[1].tolist() == outside[1]
        assert torch.equal(torch.get_rng_state(), outside[2])
    assert actions == expected


def test_the_seed_decides() -> None:
    one, other = DDPGAgent(SEEN, config=SMALL, seed=0), DDPGAgent(SEEN, config=SMALL, seed=1)
    assert rollout(one, 0) != rollout(other, 0)


def test_before_it_has_learned_it_proposes_the_prior() -> None:
    agent = DDPGAgent(SEEN, seed=5)
    seen = np.random.default_rng(0).uniform(-1, 1, (20, SEEN)).astype(np.float32)
    assert max(abs(agent.act(o, explore=False)) for o in seen) < 0.02


def test_random_rollouts_are_uniform_with_nothing_added() -> None:
    agent = DDPGAgent(SEEN, config=SMALL, seed=2)
    draws = np.array([agent.act(np.zeros(SEEN, np.float32), explore=True) for _ in range(600)])
    counts, _ = np.histogram(draws, bins=6, range=(-1, 1))
    assert counts.min() > 70  # 100 expected, standard deviation 9
    assert np.abs(draws).max() < 1


def test_the_spread_of_actions_follows_the_schedule() -> None:
    config = DDPGConfig(ddpg_noise_std_init=0.2, ddpg_noise_std_finl=0.02, ddpg_noise_decy_rate=0.5)
    agent = DDPGAgent(SEEN, config=config, seed=0)
    spread = []
    for agent.rollouts in (0, 1, 9):
        draws = [agent.act(np.zeros(SEEN, np.float32), explore=True) for _ in range(300)]
        spread.append(float(np.std(draws)))
    np.testing.assert_allclose(spread, [0.2, 0.1, 0.02], rtol=0.15)


def test_demonstrations_teach_but_do_not_advance_the_schedule() -> None:
    agent = DDPGAgent(SEEN, config=SMALL, seed=0)
    seen = np.zeros((STEPS + 1, SEEN), np.float32)
    before = weights(agent)
    agent.observe(transitions(seen, np.full(STEPS, 0.5), reward=1.0), demonstration=True)
    agent.learn()
    assert agent.rollouts == 0
    assert any((a != b).any() for a, b in zip(before, weights(agent), strict=True))


def test_actor_and_critic_keep_their_own_learning_rates() -> None:
    config = DDPGConfig(ddpg_lrn_rate_actor=2e-4, ddpg_lrn_rate_critic=3e-3)
    agent = DDPGAgent(SEEN, config=config, seed=0)
    agent.observe(transitions(np.zeros((3, SEEN), np.float32), np.zeros(2), reward=1.0))
    agent.learn(2)
    parts = agent._parts()
    assert parts["actor_optimizer"].param_groups[0]["lr"] == 2e-4
    assert parts["critic_optimizer"].param_groups[0]["lr"] == 3e-3


def test_learning_from_nothing_does_nothing() -> None:
    agent = DDPGAgent(SEEN, config=SMALL, seed=0)
    before = weights(agent)
    agent.learn()
    for a, b in zip(before, weights(agent), strict=True):
        np.testing.assert_array_equal(a, b)


def test_unusable_rollouts_and_states_are_refused() -> None:
    agent = DDPGAgent(SEEN, config=SMALL, seed=0)
    see = np.zeros(SEEN, np.float32)
    with pytest.raises(ValueError, match="one whole rollout"):
        agent.observe([Transition(see, 0.0, 0.0, see, False)])
    with pytest.raises(ValueError, match="finite"):
        agent.observe([Transition(see, 0.0, float("nan"), see, True)])
    with pytest.raises(ValueError, match="other settings"):
        DDPGAgent(SEEN, seed=0).restore(agent.state_bytes())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ddpg_actor_depth", 0),
        ("ddpg_batch_size", 2.5),
        ("ddpg_tau", 0.0),
        ("ddpg_gamma", 1.01),
        ("ddpg_mixed_return", -0.1),
        ("ddpg_lrn_rate_actor", float("nan")),
        ("ddpg_bsln_decy_rate", 1.0),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` {value}: (allowed is|must be) "):
        DDPGConfig(**{name: value})  # type: ignore[arg-type]


def best_of(
    problem: AllocationProblem,
    choose: Callable[[NDArray[np.float32]], float],
    agent: DDPGAgent | None,
) -> float:
    """Best reward of 50 rollouts, an agent learning from each."""
    rewards = []
    for _ in range(50):
        end = run_episode(problem, ActionMap.of(problem), choose=choose)
        rewards.append(problem.evaluate([end.zeros])[0].reward)
        if agent:
            agent.observe(transitions(end.observations, end.actions, reward=rewards[-1]))
            agent.learn()
    return max(rewards)


@pytest.mark.long
def test_it_finds_more_than_random_search_at_equal_cost() -> None:
    gains = []
    for seed in (0, 1, 2):
        problem, evaluator = synthetic_problem(seed=seed, every=3)
        agent = DDPGAgent(len(FEATURES), config=DDPGConfig(ddpg_nb_updates=10), seed=seed)
        rng = np.random.default_rng(seed)
        ours = best_of(problem, partial(agent.act, explore=True), agent)
        noise = partial(truncated_normal, 0.0, 0.5, rng=rng)
        rival = best_of(problem, lambda _, noise=noise: float(noise()), None)
        assert evaluator.evaluations == 100
        gains.append(ours - rival)
    assert np.mean(gains) > 0
    assert np.median(gains) > 0
