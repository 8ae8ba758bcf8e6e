"""The goal-conditioned agent is stable-baselines3's DDPG, and its gradient is right."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from agents.critic import Observed, ProfileCritic
from agents.goal_ddpg import GoalDDPG
from agents.layer_actor import GoalPolicy
from agents.settle import scored_point
from envs.milder import log_densities
from envs.offset_map import OffsetMap
from envs.problem import AllocationProblem, FloatArray
from envs.pruning_env import PruningEnv
from tests.support.divergence_problem import Priced, divergence_problem
from tests.support.synthetic_problem import synthetic_problem

TARGETS = (0.75, 0.9, 0.96)


def make(**options: Any) -> tuple[PruningEnv, Priced]:
    problem, goals, evaluator = divergence_problem(**options)
    return PruningEnv(problem, OffsetMap.of, spend="last step", goals=goals), evaluator


class Watch(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.steps = self.rollouts = 0
        self.infos: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        self.steps += 1
        self.infos += [info for info in self.locals["infos"] if "score" in info]
        return True

    def _on_rollout_end(self) -> None:
        self.rollouts += 1


def weights_of(agent: GoalDDPG) -> FloatArray:
    return np.concatenate([p.detach().numpy().ravel() for p in agent.actor.parameters()])


def test_the_environment_passes_both_checkers() -> None:
    env, _ = make()
    check_env(env, skip_render_check=True)
    sb3_check_env(env)


def test_the_executed_profile_is_on_the_budget_and_is_what_is_learned_from() -> None:
    env, evaluator = make()
    agent, watch = GoalDDPG(env=env, targets=TARGETS, updates=1, noise=0.5), Watch()
    agent.learn(8 * env._episode.steps, callback=watch)
    assert len(watch.infos) == len(agent.memory.seen) == evaluator.evaluations == 8
    assert {info["target"] for info in watch.infos} <= set(TARGETS)
    assert len({info["target"] for info in watch.infos}) > 1
    _, goals, _ = divergence_problem()
    for info, seen in zip(watch.infos, agent.memory.seen, strict=True):
        problem = goals(info["target"])
        assert info["zeros"].sum() == problem.budget
        assert ((problem.lower <= info["zeros"]) & (info["zeros"] <= problem.upper)).all()
        assert seen.executed.tolist() == log_densities(info["zeros"], problem.weights).tolist()
        assert seen.point.tolist() == scored_point(info["zeros"], problem).tolist()
        assert seen.value == info["score"].divergence
        assert seen.slopes.tolist() == list(info["score"].slopes)


def test_it_is_a_stable_baselines_agent(tmp_path: Path) -> None:
    env, _ = make()
    steps = env._episode.steps
    agent, watch = GoalDDPG(env=env, targets=TARGETS, layers=8, updates=3), Watch()
    assert isinstance(agent, stable_baselines3.DDPG)
    before = weights_of(agent)
    assert agent.learn(5 * steps, callback=watch) is agent
    assert watch.steps == agent.num_timesteps == 5 * steps
    assert watch.rollouts == 5
    assert agent._n_updates == 15
    assert (weights_of(agent) != before).any()
    seen, _ = env.reset()
    action, _ = agent.predict(seen, deterministic=True)
    assert env.action_space.contains(action)

    agent.save(tmp_path / "agent")
    agent.save_replay_buffer(tmp_path / "buffer")
    again = GoalDDPG.load(tmp_path / "agent", env=make()[0])
    again.load_replay_buffer(tmp_path / "buffer")
    assert weights_of(again).tolist() == weights_of(agent).tolist()
    assert again.predict(seen, deterministic=True)[0].tolist() == action.tolist()
    assert again.targets == TARGETS
    assert len(again.memory.seen) == 5
    again.learn(3 * steps, reset_num_timesteps=False)
    assert len(again.memory.seen) == 8
    assert again.num_timesteps == 8 * steps
    assert again._n_updates == 24

    alone = GoalDDPG.load(tmp_path / "agent")  # without an environment, to predict
    assert alone.predict(seen, deterministic=True)[0].tolist() == action.tolist()
    alone.set_env(make()[0])
    alone.learn(steps)
    assert len(alone.memory.seen) == 1


def test_another_environment_of_the_same_network_keeps_what_was_seen() -> None:
    env, _ = make()
    agent = GoalDDPG(env=env, updates=1)
    agent.learn(2 * env._episode.steps)
    other, _ = make(target=0.8)
    agent.set_env(other)
    agent.learn(2 * other._episode.steps)
    assert len(agent.memory.seen) == 4
    assert agent.goal_space().targets == (0.8,)


def test_another_network_starts_with_an_empty_buffer() -> None:
    env, _ = make()
    agent = GoalDDPG(env=env, updates=1)
    agent.learn(2 * env._episode.steps)
    other, _ = make(every=7)
    agent.set_env(other)
    agent.learn(2 * other._episode.steps)
    assert len(agent.memory.seen) == 2


def test_training_in_mid_episode_does_not_disturb_it() -> None:
    """With `train_freq` in steps the agent looks at its targets while an episode runs."""
    env, _ = make()
    agent, watch = GoalDDPG(env=env, targets=TARGETS, updates=1, train_freq=3), Watch()
    agent.learn(3 * env._episode.steps, callback=watch)
    assert len(watch.infos) == 3
    ends = np.flatnonzero(agent.memory.dones[: 3 * env._episode.steps, 0])
    assert (np.diff(ends) == env._episode.steps).all()


def test_wrapped_and_vectorised_environments_do() -> None:
    env, _ = make()
    wrapped = gymnasium.wrappers.RecordEpisodeStatistics(env)
    agent = GoalDDPG(env=wrapped, targets=TARGETS, updates=1)
    agent.learn(2 * env._episode.steps)
    assert len(agent.memory.seen) == 2

    envs = stable_baselines3.common.vec_env.DummyVecEnv([lambda: make()[0], lambda: make()[0]])
    two = GoalDDPG(env=envs, updates=1, train_freq=1, gradient_steps=1)
    two.learn(4 * env._episode.steps)
    assert len(two.memory.seen) == 4  # two episodes of each


def test_other_action_maps_are_refused() -> None:
    problem, _, _ = divergence_problem()
    env = PruningEnv(problem, spend="last step")
    with pytest.raises(ValueError, match=r"OffsetMap\.of"):
        GoalDDPG(env=env, updates=1).learn(env._episode.steps)


def wide_problem() -> AllocationProblem:
    """Layers so large that rounding to whole weights is below the differences taken."""
    problem, _, _ = divergence_problem(target=0.9)
    scale = 10**7
    layers = tuple(
        dataclasses.replace(row, weights=row.weights * scale, shape=(row.weights * scale, 1))
        for row in problem.layers
    )
    names = ("lower", "upper", "prior")
    return dataclasses.replace(
        problem, layers=layers, **{name: getattr(problem, name) * scale for name in names}
    )


def test_the_actors_gradient_is_that_of_walks_through_the_environment() -> None:
    problem = wide_problem()
    env = PruningEnv(problem, OffsetMap.of, spend="last step", rewarded=False)
    agent = GoalDDPG(env=env, layers=len(problem.layers), updates=0, seed=1)
    goals, rng = agent.goal_space(), np.random.default_rng(0)
    with torch.no_grad():
        agent.actor.mu[-1].weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
        agent.actor.free.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    points = np.log(np.clip(np.exp(rng.normal(-1.7, 0.3, (6, 8))), 0, 0.9))
    points[:, -1] = 0.0

    def walked() -> FloatArray:
        seen, _ = env.reset()
        done, info = False, dict[str, Any]()
        while not done:
            with torch.no_grad():
                action = agent.actor(torch.from_numpy(seen[None])).numpy()[0]
            seen, _, done, _, info = env.step(action.astype(np.float64))
        return scored_point(info["zeros"], problem)[None]

    known = walked()  # nothing pulls
    curves = goals.curves
    values = curves(points)[0].sum(1) * 1.2
    critic = ProfileCritic.fit(
        curves,
        [
            Observed(point=p, executed=p, value=v, slopes=s)
            for p, v, s in zip(points, values, 1.5 * curves(points)[1], strict=True)
        ],
    )
    rows = np.array([0])
    wanted = goals.wanted(rows, agent.actor(goals.observations[0]).reshape(1, -1))
    loss, gradient = goals.loss(rows, wanted.detach().numpy(), critic, known=known)
    agent.actor.zero_grad()
    torch.autograd.backward(wanted, torch.from_numpy(gradient))
    assert loss == pytest.approx(float(critic(walked())[0][0]), abs=1e-5)
    checked = 0
    for parameter in (agent.actor.free, agent.actor.mu[-1].bias, agent.actor.mu[-1].weight):
        assert parameter.grad is not None
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(min(len(flat), 14)):
            before, found = float(flat[place]), []
            for step in (0.02, -0.02):
                flat[place] = before + step
                found.append(float(critic(walked())[0][0]))
            flat[place] = before
            assert float(slope[place]) == pytest.approx((found[0] - found[1]) / 0.04, abs=2e-3)
            checked += abs(float(slope[place])) > 1e-2
    assert checked >= 5


def test_slopes_beyond_the_limit_are_clipped_and_far_profiles_pulled_back() -> None:
    env, _ = make()
    goals = GoalDDPG(env=env).goal_space()
    rows, wanted = np.array([0]), goals._bases.numpy()[:1].copy()
    critic = ProfileCritic.fit(goals.curves, [])
    settled = goals._budgets.rows(rows)(wanted)
    _, alone = goals.loss(rows, wanted, critic, known=settled.scored)
    far = settled.scored.copy()
    far[0, 0] += 3.0
    _, pulled = goals.loss(rows, wanted, critic, known=far)
    assert pulled[0, 0] < alone[0, 0]  # down the gradient layer 0 becomes denser


@pytest.mark.long
def test_it_learns_prices_that_its_prior_does_not_know() -> None:
    """At every target the learned profile is better than action 0, without a rollout there."""
    env, evaluator = make(seed=3, misleading=1.0)
    agent = GoalDDPG(env=env, targets=TARGETS, layers=8, updates=25, seed=0)
    agent.learn(15 * env._episode.steps)
    _, goals, _ = divergence_problem(seed=3, misleading=1.0)
    for target in (0.8, 0.9, 0.95):
        seen, _ = env.reset(options={"target": target})
        done = False
        while not done:
            seen, _, done, _, info = env.step(agent.predict(seen, deterministic=True)[0])
        prior = evaluator.divergence(goals(target).prior)
        assert info["score"].divergence < 0.9 * prior


def test_targets_are_checked_and_the_usual_policy_name_works() -> None:
    with pytest.raises(ValueError, match=r"targets \[1.2\]: must be prune ratios between 0 and 1"):
        GoalDDPG(targets=(0.5, 1.2))
    problem = synthetic_problem(every=3)[0]
    env = PruningEnv(problem, OffsetMap.of, spend="last step")
    assert isinstance(GoalDDPG("MlpPolicy", env).policy, GoalPolicy)
