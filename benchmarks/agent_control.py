"""Agent on control tasks with known solutions: train, evaluate, plot.

    python -m benchmarks.agent_control --task pendulum --seed 0
    python -m benchmarks.agent_control --task move-to-target --seed 0

Each trains the same DDPG that searches prune ratios by its stock `learn()`, evaluates 100
episodes without noise, and writes `<task>-seed<seed>.json` and `.svg` under
`experiments/results/agent_control/`. A few minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import DDPGConfig
from ws_learner.core import write_json, write_with

if TYPE_CHECKING:
    import gymnasium

    from agents import DDPG

__all__ = ["TASKS", "ControlTask", "main", "run"]

RESULTS = Path(__file__).resolve().parents[1] / "experiments" / "results" / "agent_control"
EVALUATIONS = 100


@dataclass(frozen=True, kw_only=True)
class ControlTask:
    """A task and what counts as having solved it.

    Attributes:
        make: Makes the environment; episodes have 200 steps.
        episodes: Training rollouts.
        config: The agent's settings.
        least: What the mean over evaluation episodes must reach, by measure. `return` is the sum
            of rewards, other names are entries of the info: `waste` summed, `-distance` the last.
        reason: Why these numbers.
    """

    make: Callable[[], gymnasium.Env[Any, Any]]
    episodes: int
    config: DDPGConfig
    least: dict[str, float]
    reason: str


def _pendulum() -> gymnasium.Env[Any, Any]:
    import gymnasium

    return gymnasium.make("Pendulum-v1")


def _move_to_target() -> gymnasium.Env[Any, Any]:
    from benchmarks.move_to_target import MoveToTarget

    return MoveToTarget()


# Rewards come at every step and episodes are cut by time: no mixed return and no baseline
# apply, and one update per step is usual.
_DENSE = {
    "ddpg_gamma": 0.98,
    "ddpg_tau": 0.005,
    "ddpg_mixed_return": 0.0,
    "ddpg_enbl_rtrn_norm": False,
    "ddpg_lrn_rate_actor": 1e-3,
    "ddpg_lrn_rate_critic": 1e-3,
    "ddpg_nb_updates": 200,
    "ddpg_batch_size": 128,
    "ddpg_buffer_size": 50_000,
    "ddpg_nb_rlouts_rand": 5,
    "ddpg_noise_std_init": 0.3,
    "ddpg_noise_decy_rate": 0.98,
}

TASKS = {
    "pendulum": ControlTask(
        make=_pendulum,
        episodes=100,
        config=DDPGConfig(**_DENSE),  # type: ignore[arg-type]
        least={"return": -200.0},
        reason="swinging up costs 120 to 250 by starting angle; resting below costs about 1200",
    ),
    "move-to-target": ControlTask(
        make=_move_to_target,
        episodes=100,
        config=DDPGConfig(**_DENSE),  # type: ignore[arg-type]
        least={"waste": -0.5, "-distance": -0.5},
        reason="of 11.3 to go on average, at most 0.5 wasted on detours (PocketFlow's return, "
        "optimum 0) and at most 0.5 left",
    ),
}


def evaluate_policy(
    agent: DDPG, task: ControlTask, *, episodes: int, seed: int
) -> list[dict[str, float]]:
    """Run noise-free episodes from start states of their own; returns their measures."""
    env = task.make()
    measures = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        sums: dict[str, float] = {"return": 0.0}
        ended = cut = False
        while not (ended or cut):
            action, _ = agent.predict(observation, deterministic=True)
            observation, reward, ended, cut, info = env.step(action)
            sums["return"] += float(reward)
            if "waste" in info:
                sums["waste"] = sums.get("waste", 0.0) + info["waste"]
                sums["-distance"] = -info["distance"]
        measures.append(sums)
    return measures


def run(
    name: str, *, seed: int, episodes: int | None = None, evaluations: int = EVALUATIONS
) -> dict[str, Any]:
    """Train on a task and evaluate; returns what the JSON file holds.

    Args:
        name: A key of `TASKS`.
        seed: Seed of networks, exploration and training starts.
        episodes: Training rollouts, if not the task's own number.
        evaluations: Noise-free episodes, before and after.
    """
    import numpy as np
    import torch
    from stable_baselines3.common.monitor import Monitor

    from agents import DDPG

    task = TASKS[name]
    count = task.episodes if episodes is None else episodes
    torch.set_num_threads(1)
    watched = Monitor(task.make())
    agent = DDPG(env=watched, config=task.config, seed=seed)
    before = evaluate_policy(agent, task, episodes=evaluations, seed=10_000)
    start = time.process_time()
    agent.learn(200 * count)
    seconds = time.process_time() - start
    after = evaluate_policy(agent, task, episodes=evaluations, seed=10_000)
    means = {key: float(np.mean([m[key] for m in after])) for key in after[0]}
    return {
        "task": name,
        "seed": seed,
        "command": f"python -m benchmarks.agent_control --task {name} --seed {seed}",
        "config": asdict(task.config),
        "training_episodes": count,
        "training_returns": watched.get_episode_rewards(),
        "evaluation_episodes": evaluations,
        "mean_before_training": {
            key: float(np.mean([m[key] for m in before])) for key in before[0]
        },
        "mean": means,
        "threshold": task.least,
        "reason": task.reason,
        "solved": all(means[key] >= least for key, least in task.least.items()),
        "training_cpu_seconds": round(seconds, 1),
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the learning curve: return of every training rollout and of the evaluation."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    returns = result["training_returns"]
    axes.plot(range(1, len(returns) + 1), returns, lw=1, label="training rollout, with noise")
    axes.axhline(
        result["mean"]["return"], color="tab:green", label="mean of 100 noise-free episodes, after"
    )
    axes.axhline(
        result["mean_before_training"]["return"], color="tab:gray", ls=":", label="the same, before"
    )
    if "return" in result["threshold"]:
        axes.axhline(result["threshold"]["return"], color="tab:red", ls="--", label="solved")
    axes.set(xlabel="rollout", ylabel="return", title=f"{result['task']}, seed {result['seed']}")
    axes.legend(fontsize="small")
    with mpl.rc_context({"svg.hashsalt": "agent_control"}):
        write_with(path, lambda temporary: figure.savefig(temporary, metadata={"Date": None}))
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task; the exit code is 0 if it was solved, or did not have to be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="5 rollouts; need not be solved")
    options = parser.parse_args(arguments)
    shorter = {"episodes": 5, "evaluations": 5} if options.quick else {}
    result = run(options.task, seed=options.seed, **shorter)
    stem = options.out / f"{options.task}-seed{options.seed}"
    write_json(stem.with_suffix(".json"), result)
    draw(result, stem.with_suffix(".svg"))
    shown = {key: result[key] for key in ("task", "seed", "mean", "threshold", "solved")}
    print(json.dumps(shown, indent=2))
    return 0 if result["solved"] or options.quick else 1


if __name__ == "__main__":
    raise SystemExit(main())
