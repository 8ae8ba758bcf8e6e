"""Networks between which the agent's actor is transferred, and what it learns from on each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agents import GoalSearch, ProfilePolicy, Proposer
from benchmarks.search_tasks import TaskName, load_search_task
from envs import AllocationProblem, IntArray, Score
from ws_learner.config import WeightSparseConfig
from ws_learner.search import (
    CLOSED_FORM,
    AllocationContext,
    RolloutEvaluator,
    Search,
    build_goal_problems,
    goal_targets,
    seed_profiles,
)

__all__ = ["FAMILIES", "NETWORKS", "Network", "Setting", "lessons", "network", "searched"]

FAMILIES: dict[str, tuple[TaskName, ...]] = {
    "ResNets": ("resnet20", "resnet20-new"),
    "VGG-like": ("vgg-like",),
    "MiniLM": ("minilm",),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is asked of a network.

    Attributes:
        goals: Range of targets from which the actor learns.
        targets: Targets at which it is tried when it comes from other networks.
        lessons: Rollouts of the search for the range of targets.
        rival: Rollouts of `bayesian`.
        seeds: Seeds at most, where a rollout takes long; later ones learn from the last one's.
    """

    goals: str
    targets: tuple[float, ...]
    lessons: int = 48
    rival: int = 100
    seeds: int = 3


NETWORKS: dict[TaskName, Setting] = {
    "resnet20": Setting(goals="0.75:0.985", targets=(0.9, 0.95)),
    "resnet20-new": Setting(goals="0.75:0.985", targets=()),
    "vgg-like": Setting(goals="0.85:0.99", targets=(0.95,)),
    "minilm": Setting(goals="0.5:0.9", targets=(0.8,), lessons=20, rival=30, seeds=1),
}


@dataclass(frozen=True, eq=False)
class Network:
    """A network with one seed's search images.

    Attributes:
        name: Of the network.
        seed: Of search images and searches.
        evaluator: Measures slopes.
        config: Settings of a search for the range of targets.
    """

    name: TaskName
    seed: int
    evaluator: RolloutEvaluator
    config: WeightSparseConfig

    def at(self, target: float) -> AllocationProblem:
        """The problem of a target."""
        return _problems(self.name, self.seed)(target)

    def without_slopes(self, target: float) -> AllocationProblem:
        """The problem of a target, for searches that do not use slopes."""
        evaluator = _without_slopes(self.name, self.seed)
        return dataclasses.replace(
            self.at(target), evaluate=lambda candidates: [evaluator.score(z) for z in candidates]
        )

    def policy(self) -> ProfilePolicy:
        """A new policy for the range of targets, whose actor fits any network."""
        return ProfilePolicy(
            self.at(self.config.ws_prune_ratio),
            goals=self.at,
            targets=goal_targets(self.config),
            seed=self.seed,
            transferable=True,
        )

    def context(self, target: float) -> AllocationContext:
        """Inputs of the protocols without rollouts."""
        aimed = dataclasses.replace(self.config, ws_prune_ratio=target, ws_goals=None)
        return load_search_task(self.name).context(aimed, self.evaluator)

    def protocol(self, name: str, target: float) -> IntArray:
        """The profile of a protocol without rollouts."""
        return CLOSED_FORM[name](self.context(target))

    def select(self, zeros: IntArray) -> float:
        """Reward on the select images, which no search has seen."""
        return _on_select(self.name, self.seed).score(zeros).reward


@cache
def network(name: TaskName, seed: int) -> Network:
    """The network with its layer database and own divergences."""
    goals = NETWORKS[name].goals
    low, high = map(float, goals.split(":"))
    config = WeightSparseConfig(
        ws_prune_ratio=round((low + high) / 2, 3),
        ws_prune_ratio_prtl="optimal",
        ws_goals=goals,
        ws_nb_rlouts_min=2,
    )
    task = load_search_task(name)
    evaluator = task.evaluator(config, seed=seed)
    return Network(name, seed, evaluator, config)


@cache
def _problems(name: TaskName, seed: int) -> Callable[[float], AllocationProblem]:
    found = network(name, seed)

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        return [found.evaluator.score(zeros) for zeros in candidates]

    return build_goal_problems(found.evaluator, found.config, evaluate=evaluate)


@cache
def _without_slopes(name: TaskName, seed: int) -> RolloutEvaluator:
    config = WeightSparseConfig(ws_prune_ratio_prtl="bayesian")
    return load_search_task(name).evaluator(config, seed=seed)


@cache
def _on_select(name: TaskName, seed: int) -> RolloutEvaluator:
    return _without_slopes(name, seed).on(load_search_task(name).experiment.data.select)


def searched(
    found: Network,
    proposer: Proposer,
    *,
    problem: AllocationProblem,
    seeds: Mapping[str, IntArray],
    rollouts: int,
    folder: Path,
) -> Sequence[Any]:
    """Run a search, or go on with a stopped one; return its rollouts."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Search(
        problem=problem,
        proposer=proposer,
        seeds=seeds,
        rollouts=rollouts,
        per_round=found.config.ws_rlouts_per_round,
        state=folder / "search.pt",
        table=folder / "rollouts.csv",
    )
    return run.run()


def lessons(found: Network, *, out: Path) -> Sequence[Any]:
    """The rollouts of a search for the network's range of targets, from which an actor learns."""
    rollouts = NETWORKS[found.name].lessons
    own = found.at(found.config.ws_prune_ratio)
    targets = goal_targets(found.config)
    proposer = GoalSearch(own, seed=found.seed, rollouts=rollouts, goals=found.at, targets=targets)
    ends = {f"divergence at {goal:g}": found.at(goal).prior for goal in targets}
    return searched(
        found,
        proposer,
        problem=own,
        seeds=seed_profiles(found.context(own.target)) | ends,
        rollouts=rollouts,
        folder=out / "lessons" / f"{found.name}-{rollouts}-{found.seed}",
    )
