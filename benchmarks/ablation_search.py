"""Runs a search of the agent's ablation, and measures what it costs in processor seconds."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ablation_entrants import OLD_SEEDS, Recipe
from benchmarks.ablation_history import Finished
from benchmarks.search_tasks import chosen_task
from ws_learner.config import WeightSparseConfig
from ws_learner.core import write_text

if TYPE_CHECKING:
    from agents import Proposal, Proposer
    from envs import AllocationProblem, IntArray, Score
    from ws_learner.search import AllocationContext, RolloutEvaluator, Search

__all__ = ["config_of", "context_of", "evaluator_of", "own_seconds", "search", "select_score"]


def config_of(recipe: Recipe, target: float) -> WeightSparseConfig:
    """Settings of a search, the product's own but for what the recipe says."""
    name: Any = recipe.protocol
    config = WeightSparseConfig(
        ws_prune_ratio=target,
        ws_prune_ratio_prtl=name,
        ws_nb_rlouts=recipe.rollouts,
        ws_nb_rlouts_min=min(WeightSparseConfig.ws_nb_rlouts_min, recipe.rollouts),
        ws_nb_iters_ft=recipe.fine_tuning,
        ws_goals=recipe.goals,
    )
    return config if recipe.slopes else dataclasses.replace(config, ws_nb_smpls_slope=0)


@lru_cache(maxsize=4)
def evaluator_of(seed: int, *, slopes: bool = False, fine_tuning: int = 0) -> RolloutEvaluator:
    """Scores on the search images of a seed."""
    protocol: Any = "optimal" if slopes else "bayesian"
    config = WeightSparseConfig(ws_prune_ratio_prtl=protocol, ws_nb_iters_ft=fine_tuning)
    return chosen_task().evaluator(config, seed=seed)


@lru_cache(maxsize=4)
def _on_select(seed: int, fine_tuning: int) -> RolloutEvaluator:
    select = chosen_task().experiment.data.select
    return evaluator_of(seed, fine_tuning=fine_tuning).on(select)


@cache
def select_score(seed: int, zeros: tuple[int, ...], *, fine_tuning: int = 0) -> Score:
    """Score on the 4,000 select images, which no search has seen."""
    import numpy as np

    return _on_select(seed, fine_tuning).score(np.array(zeros, dtype=np.int64))


def own_seconds(out: Path, seed: int) -> float:
    """Processor seconds of measuring own divergences; measured anew once, then read from a file."""
    path = out / "own" / f"{seed}.json"
    if not path.exists():
        evaluator = copy.copy(evaluator_of(seed))
        evaluator._cache_dir = None  # neither read nor kept: it must really be measured
        begun = time.process_time()
        evaluator.own_divergences()
        seconds = time.process_time() - begun
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(seconds))
    return float(json.loads(path.read_text()))


def context_of(config: WeightSparseConfig, evaluator: RolloutEvaluator) -> AllocationContext:
    """Inputs of the protocols without rollouts."""
    return chosen_task().context(config, evaluator)


class _Timed:
    """A proposer whose processor seconds are counted, and saved with its state."""

    def __init__(self, make: Callable[[], Proposer]) -> None:
        begun = time.process_time()
        self.inner = make()
        self._spare = time.process_time() - begun
        self.seconds: dict[int, float] = {}  # by the length of the history

    def propose(self, history: Sequence[Any], count: int) -> list[Proposal]:
        begun = time.process_time()
        found = self.inner.propose(history, count)
        self.seconds[len(history)] = time.process_time() - begun + self._spare
        self._spare = 0.0
        return found

    def state(self) -> dict[str, Any]:
        return {"inner": self.inner.state(), "seconds": json.dumps(list(self.seconds.items()))}

    def restore(self, state: dict[str, Any]) -> None:
        self.inner.restore(state["inner"])
        self.seconds, self._spare = dict(json.loads(state["seconds"])), 0.0


def search(recipe: Recipe, target: float, seed: int, *, out: Path) -> tuple[Finished, Proposer]:
    """Run a search, or go on with a stopped one; return its rollouts and its proposer.

    After a search over goals its proposer has learned from the last rollouts, too.
    """
    from ws_learner.search import Search, build_goal_problems

    folder = out / "histories" / f"{recipe.slug}-{target}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    evaluator = evaluator_of(seed, slopes=recipe.slopes, fine_tuning=recipe.fine_tuning)
    config = config_of(recipe, target)

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        return [_timed_score(evaluator, zeros) for zeros in candidates]

    at = build_goal_problems(evaluator, config, evaluate=evaluate)
    context = context_of(config, evaluator)
    problem = at(target) if recipe.own else _without_own(at(target), context)
    goals = at if recipe.goals else None
    timed = _Timed(lambda: _proposer(recipe, problem, config, seed=seed, goals=goals))
    run = Search(
        problem=problem,
        proposer=timed,
        seeds=_seeds(recipe, config, context, at=at),
        rollouts=recipe.rollouts,
        per_round=config.ws_rlouts_per_round,
        state=folder / "search.pt",
        table=folder / "rollouts.csv",
    )
    run.run()
    if recipe.goals:
        timed.propose(run.history, 1)
    own = own_seconds(out, seed) if recipe.own else 0.0
    finished = _finished(run, timed, own)
    finished.save(folder / "finished.json")
    return finished, timed.inner


def _timed_score(evaluator: RolloutEvaluator, zeros: IntArray) -> Score:
    begun = time.process_time()
    score = evaluator.score(zeros)
    return dataclasses.replace(score, seconds=time.process_time() - begun)


def _without_own(problem: AllocationProblem, context: AllocationContext) -> AllocationProblem:
    from ws_learner.search import CLOSED_FORM

    prior = CLOSED_FORM["knapsack"](context)
    return dataclasses.replace(problem, prior=prior, own=None, own_densities=None)


def _seeds(
    recipe: Recipe,
    config: WeightSparseConfig,
    context: AllocationContext,
    *,
    at: Callable[[float], AllocationProblem],
) -> Mapping[str, IntArray]:
    from ws_learner.search import CLOSED_FORM, seed_profiles

    if not recipe.own:
        return {name: CLOSED_FORM[name](context) for name in OLD_SEEDS}
    ends = {f"divergence at {goal:g}": at(goal).prior for goal in config.goal_range or ()}
    return seed_profiles(context) | ends


def _proposer(
    recipe: Recipe,
    problem: AllocationProblem,
    config: WeightSparseConfig,
    *,
    seed: int,
    goals: Callable[[float], AllocationProblem] | None,
) -> Proposer:
    from agents import DDPGConfig, GoalSearch
    from ws_learner.search import build_proposer, goal_targets

    if recipe.protocol != "optimal" or (recipe.actor and recipe.model):
        return build_proposer(problem, config, agent=DDPGConfig(), seed=seed, goals=goals)
    targets = goal_targets(config) if goals else ()
    return GoalSearch(
        problem,
        seed=seed,
        rollouts=recipe.rollouts,
        goals=goals,
        targets=targets,
        actor=recipe.actor,
        model=recipe.model,
    )


def _finished(run: Search, timed: _Timed, own: float) -> Finished:
    history = run.history
    proposing = [timed.seconds.get(place, 0.0) for place in range(len(history))]
    proposing[-1] += timed.seconds.get(len(history), 0.0)
    return Finished(
        kinds=[rollout.kind for rollout in history],
        zeros=[rollout.zeros.tolist() for rollout in history],
        rewards=[float("-inf") if r.score.failed else r.score.reward for r in history],
        rollout_seconds=[rollout.score.seconds for rollout in history],
        proposal_seconds=proposing,
        own_seconds=own,
    )
