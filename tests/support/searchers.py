"""Every searcher with small settings, and a problem for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from agents.bayesian import BayesianSearch
from agents.ddpg_config import DDPGConfig
from agents.ddpg_search import DDPGSearch
from agents.evolution import Evolution
from agents.goal_search import GoalSearch
from agents.proposer import Proposer, Trial
from agents.random_search import RandomSearch
from agents.surrogate_search import SurrogateSearch
from envs.budget import project
from envs.problem import AllocationProblem, IntArray
from tests.support.synthetic_problem import Separable, synthetic_problem
from ws_learner.search.history import Rollout
from ws_learner.search.loop import Search

RLOUTS, PER_ROUND = 17, 4
TINY = DDPGConfig(ddpg_actor_width=8, ddpg_critic_width=8, ddpg_nb_updates=2, ddpg_batch_size=8)
AGENT = {"config": TINY, "rollouts": RLOUTS, "rollouts_min": 7}
MAKERS: dict[str, Callable[..., Proposer]] = {
    "random": RandomSearch,
    "evolution": Evolution,
    "bayesian": partial(BayesianSearch, candidates=40),
    "ddpg": partial(DDPGSearch, **AGENT),  # type: ignore[arg-type]
    "surrogate": partial(SurrogateSearch, candidates=40, **AGENT),  # type: ignore[arg-type]
    "optimal": partial(GoalSearch, rollouts=RLOUTS, updates=5),
}


def small_problem(seed: int = 0) -> tuple[AllocationProblem, Separable]:
    """Eight layers, the last one exempt, another with one possible count."""
    problem, evaluator = synthetic_problem(seed=seed, target=0.9, every=3)
    lower, upper = problem.lower.copy(), problem.upper.copy()
    upper[-1] = 0
    lower[1] = upper[1] = 1500
    prior = project(
        problem.weights * 0.9,
        budget=problem.budget,
        lower=lower,
        upper=upper,
        weights=problem.weights,
    )
    return dataclasses.replace(problem, lower=lower, upper=upper, prior=prior), evaluator


def seeds_of(problem: AllocationProblem) -> dict[str, IntArray]:
    rng = np.random.default_rng(0)
    fit = partial(
        project,
        budget=problem.budget,
        lower=problem.lower,
        upper=problem.upper,
        weights=problem.weights,
    )
    size = problem.weights
    return {
        "prior": problem.prior,
        "same": problem.prior.copy(),
        "other": fit(size * rng.uniform(0.8, 1, len(size))),
        "third": fit(size * rng.uniform(0.6, 1, len(size))),
    }


def searched(
    name: str, folder: Path, problem: AllocationProblem, *, seed: int = 0, rollouts: int = RLOUTS
) -> list[Rollout]:
    return Search(
        problem=problem,
        proposer=MAKERS[name](problem, seed=seed),
        seeds=seeds_of(problem),
        rollouts=rollouts,
        per_round=PER_ROUND,
        state=folder / "search.pt",
        table=folder / "rollouts.csv",
    ).run()


def plain(history: Sequence[Trial]) -> list[tuple[str, list[int], float]]:
    return [(trial.kind, trial.zeros.tolist(), trial.score.reward) for trial in history]
