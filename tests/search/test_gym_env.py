"""`make_pruning_env`: a real network and real data behind a gymnasium environment."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import TD3
from torch import nn

from tests.support.digits import digits_splits
from tests.support.digits_experiment import network
from ws_learner import WeightSparseConfig, make_pruning_env
from ws_learner.core.errors import UserError
from ws_learner.training.evaluation import top_k_accuracy

SMALL = WeightSparseConfig(
    ws_nb_smpls_rg=50, ws_nb_smpls_bn=20, ws_nb_iters_feval=1, ws_nb_iters_ft=1
)


def make(target: float = 0.8, **more: object):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return make_pruning_env(
        network(4),
        digits_splits(),
        loss=nn.CrossEntropyLoss(),
        metric=top_k_accuracy,
        target=target,
        config=SMALL,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.filterwarnings("ignore:.*spec.*:UserWarning")
def test_it_is_a_gymnasium_citizen() -> None:
    env = make()
    check_env(env, skip_render_check=True)
    assert "ws/Pruning-v0" in gymnasium.registry


@pytest.mark.parametrize("seed", range(5))
def test_any_actions_end_on_the_budget_and_are_scored(seed: int) -> None:
    env, rng = make(), np.random.default_rng(seed)
    env.reset(seed=seed)
    rewards, done, info = [], False, {}
    while not done:
        _, reward, done, truncated, info = env.step(rng.uniform(-1, 1, 1).astype(np.float32))
        rewards.append(reward)
        assert not truncated
    sizes = [4 * 9, 8 * 4 * 9, 10 * 128]
    assert len(rewards) == len(sizes)
    assert info["zeros"].sum() == round(0.8 * sum(sizes))
    assert rewards[:-1] == [0.0, 0.0]
    assert rewards[-1] == info["score"].reward > 0


def test_a_stock_agent_runs_on_it() -> None:
    model = TD3("MlpPolicy", make(), learning_starts=3, seed=0, policy_kwargs={"net_arch": [8]})
    model.learn(12)
    assert model.num_timesteps == 12


def test_a_target_out_of_reach_is_refused() -> None:
    with pytest.raises(UserError, match="`ws_prune_ratio`"):
        make(target=0.999)
