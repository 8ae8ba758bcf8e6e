"""The control benchmarks: the task is what it says, and the agent learns it by stock `learn()`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from benchmarks import agent_control
from benchmarks.move_to_target import STEPS, MoveToTarget


@pytest.mark.filterwarnings("ignore:.*spec.*:UserWarning")
def test_move_to_target_passes_both_checkers() -> None:
    check_env(MoveToTarget(), skip_render_check=True)
    sb3_check_env(MoveToTarget())


@given(st.integers(0, 1000), st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_nothing_beats_a_straight_walk(seed: int, action: list[float]) -> None:
    env = MoveToTarget(path_cost=1.0)
    seen, start = env.reset(seed=seed)
    _, reward, _, _, info = env.step(np.array(action, np.float32))
    assert reward == pytest.approx(info["waste"])
    assert reward <= 1e-9
    env.reset(seed=seed)
    straight = (-seen / np.abs(seen).max()).astype(np.float32)
    _, reward, _, _, info = env.step(straight)
    assert reward == pytest.approx(0.0, abs=1e-5)
    assert start["distance"] - info["distance"] == pytest.approx(np.linalg.norm(straight), abs=1e-5)


def test_an_episode_is_cut_after_200_steps() -> None:
    env = MoveToTarget()
    env.reset(seed=0)
    ends = [env.step(np.zeros(4, np.float32))[2:4] for _ in range(STEPS)]
    assert ends == [(False, False)] * (STEPS - 1) + [(False, True)]


@pytest.mark.long
def test_a_short_training_brings_the_point_closer() -> None:
    result = agent_control.run("move-to-target", seed=0, episodes=8, evaluations=5)
    before, after = result["mean_before_training"], result["mean"]
    assert after["-distance"] > before["-distance"] / 2
    assert after["return"] > before["return"] + 1
    assert len(result["training_returns"]) == 8


def test_kept_results_say_solved_and_how() -> None:
    files = sorted(agent_control.RESULTS.glob("*.json"))
    assert {json.loads(f.read_text())["task"] for f in files} == set(agent_control.TASKS)
    for file in files:
        kept = json.loads(file.read_text())
        assert kept["solved"] == all(kept["mean"][k] >= v for k, v in kept["threshold"].items())
        assert file.with_suffix(".svg").is_file()
        assert f"--task {kept['task']} --seed {kept['seed']}" in kept["command"]


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(agent_control.TASKS))
def test_the_agent_solves_the_task(task: str, tmp_path: Path) -> None:
    assert agent_control.main(["--task", task, "--seed", "0", "--out", str(tmp_path)]) == 0
