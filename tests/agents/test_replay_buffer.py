"""The replay buffer: what the critic is told a transition was worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces

from agents.ddpg_config import DDPGConfig
from agents.replay import ReturnBuffer

PLAIN = DDPGConfig(ddpg_gamma=0.9, ddpg_mixed_return=0.0, ddpg_enbl_rtrn_norm=False)
EPISODES = ([0.0, 0.0, 3.0], [1.0, -2.0], [0.5, 0.0, 0.0, 1.0])


def filled(config: DDPGConfig, *, size: int = 20, cut: bool = False) -> ReturnBuffer:
    """Store the episodes; a transition's observation is its number."""
    buffer = ReturnBuffer(size, spaces.Box(-1, 99, (1,)), spaces.Box(-1, 1, (1,)), config=config)
    number = 0
    for rewards in EPISODES:
        for step, reward in enumerate(rewards):
            done = step == len(rewards) - 1
            buffer.add(
                np.array([[number]]),
                np.array([[number + 1]]),
                np.zeros((1, 1)),
                np.array([reward]),
                np.array([float(done)]),
                [{"TimeLimit.truncated": done and cut}],
            )
            number += 1
    return buffer


def targets(buffer: ReturnBuffer, value: float) -> np.ndarray:
    """Return the critic's target per stored transition, `value` standing for the next Q."""
    sample = buffer._get_samples(np.arange(buffer.size()))
    assert sample.discounts is not None
    bootstrap = (1 - sample.dones) * sample.discounts * value
    return (sample.rewards + bootstrap).numpy()[:, 0]


def oracle(config: DDPGConfig, value: float) -> np.ndarray:
    """The same by the definition, in float64."""
    gamma, mix = config.ddpg_gamma, config.ddpg_mixed_return
    returns = [sum(gamma**k * r for k, r in enumerate(rewards)) for rewards in EPISODES]
    mean = float(np.mean(returns)) if config.ddpg_enbl_bsln_func else 0.0
    scale = float(np.std(returns)) if config.ddpg_enbl_rtrn_norm else 1.0
    expected = []
    for rewards in EPISODES:
        own = np.array(rewards)
        own[-1] -= mean
        own /= scale
        for t in range(len(own)):
            later = own[t:]
            observed = float(later @ gamma ** np.arange(len(later)))
            one_step = own[t] + (gamma * value if t < len(own) - 1 else 0.0)
            expected.append(mix * observed + (1 - mix) * one_step)
    return np.array(expected)


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_targets_mix_return_and_bootstrap(mix: float, baseline: bool, norm: bool) -> None:
    config = replace(
        PLAIN, ddpg_mixed_return=mix, ddpg_enbl_bsln_func=baseline, ddpg_enbl_rtrn_norm=norm
    )
    # Three episodes are few enough for the moving statistics to be the plain ones.
    np.testing.assert_allclose(
        targets(filled(config), 0.7), oracle(config, 0.7), rtol=1e-5, atol=1e-6
    )


def test_an_episode_cut_by_time_bootstraps_only() -> None:
    config = replace(PLAIN, ddpg_mixed_return=0.8, ddpg_enbl_bsln_func=False)
    got = targets(filled(config, cut=True), 2.0)
    np.testing.assert_allclose(got, np.concatenate(EPISODES) + 0.9 * 2.0, rtol=1e-6)


def test_the_baseline_becomes_a_moving_average() -> None:
    buffer = filled(replace(PLAIN, ddpg_gamma=1.0, ddpg_bsln_decy_rate=0.5))
    # Weights 1, then 1/2, then max(1/3, 1 - 0.5): 3 -> (3 - 1)/2 = 1 -> (1 + 1.5)/2.
    assert buffer.baseline == pytest.approx(1.25)


def test_the_oldest_go_first_and_returns_stay_with_their_transitions() -> None:
    config = replace(PLAIN, ddpg_mixed_return=1.0, ddpg_enbl_bsln_func=False)
    buffer = filled(config, size=5)
    sample = buffer._get_samples(np.arange(5))
    wanted = oracle(config, 0.0)[sample.observations[:, 0].numpy().astype(int)]
    np.testing.assert_allclose(sample.rewards[:, 0].numpy(), wanted, rtol=1e-6)
    assert sorted(sample.observations[:, 0].tolist()) == [4, 5, 6, 7, 8]


def test_state_is_taken_between_episodes_only() -> None:
    buffer = filled(PLAIN)
    buffer.add(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    with pytest.raises(ValueError, match="between rollouts"):
        buffer.state()


def test_one_environment_only() -> None:
    with pytest.raises(ValueError, match="n_envs 2"):
        ReturnBuffer(8, spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (1,)), n_envs=2, config=PLAIN)
