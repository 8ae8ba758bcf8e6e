"""The jobs of each part of the agent's ablation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ablation_entrants import (
    CHEAP,
    RIVALS,
    Recipe,
    ablations,
    bayesian_with_own,
    optimal,
    rival,
)
from benchmarks.ablation_frontier import GoalsJob, goals_rows
from benchmarks.ablation_jobs import Row
from benchmarks.ablation_options import Options
from benchmarks.ablation_search import evaluator_of, own_seconds
from benchmarks.ablation_searches import (
    CheapJob,
    PrefixJob,
    RecordedJob,
    SearchJob,
    cheap_row,
    prefix_rows,
    recorded_row,
    search_row,
)
from benchmarks.ablation_training import TRAINED, TunedJob, tuned_row

__all__ = [
    "AnyJob",
    "OwnJob",
    "frontier_jobs",
    "own_jobs",
    "prefix_jobs",
    "profile_jobs",
    "search_jobs",
    "tuned_jobs",
    "work",
]


@dataclass(frozen=True, kw_only=True)
class OwnJob:
    """Layer database, error curves and own divergences of a seed."""

    seed: int
    out: Path

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"own divergences, {self.seed}"


AnyJob = OwnJob | SearchJob | CheapJob | PrefixJob | GoalsJob | TunedJob


def work(job: AnyJob) -> list[Row]:
    """Do any job and return its rows."""
    match job:
        case OwnJob():
            evaluator_of(job.seed).curves()
            seconds = own_seconds(job.out, job.seed)
            evaluator_of(job.seed).own_divergences()
            return [{"seed": job.seed, "own_seconds": seconds}]
        case RecordedJob():
            return recorded_row(job)
        case SearchJob():
            return search_row(job)
        case CheapJob():
            return cheap_row(job)
        case PrefixJob():
            return prefix_rows(job)
        case GoalsJob():
            return goals_rows(job)
        case TunedJob():
            return tuned_row(job)


def own_jobs(options: Options) -> list[AnyJob]:
    """Own divergences of every seed, before other jobs use them side by side."""
    seeds = options.seeds
    if "training" in options.parts:
        seeds = max(seeds, options.train_seeds)
    return [OwnJob(seed=seed, out=options.out) for seed in range(seeds)]


def search_jobs(options: Options) -> list[AnyJob]:
    """Part `searches`."""
    recipes = [
        optimal(options.slope_rollouts),
        *ablations(
            options.slope_rollouts,
            no_slopes=options.equal_rollouts,
            no_own=options.without_own_rollouts,
        ),
        *_rivals(options),
    ]
    recipes = [recipe for recipe in recipes if _wanted(recipe, options)]
    drawn = rival("random", options.rival_rollouts)
    jobs: list[AnyJob] = []
    for seed in range(options.seeds):
        for target in options.targets:
            jobs += [_search(options, recipe, target, seed) for recipe in recipes]
            if _wanted(drawn, options) and options.network == "resnet20":
                jobs += [RecordedJob(**vars(_search(options, drawn, target, seed)))]
            jobs += _cheap(options, target, seed)
    return jobs


def _wanted(recipe: Recipe, options: Options) -> bool:
    return not options.entrants or recipe.entrant in options.entrants


def prefix_jobs(options: Options) -> list[AnyJob]:
    """Part `equal_time`."""
    return [
        PrefixJob(
            recipe=recipe,
            reference=optimal(options.slope_rollouts),
            target=target,
            seed=seed,
            out=options.out,
        )
        for seed in range(options.seeds)
        for target in options.targets
        for recipe in _rivals(options)
        if _wanted(recipe, options)
    ]


def frontier_jobs(options: Options) -> list[AnyJob]:
    """Part `frontier`."""
    goals = optimal(options.goal_rollouts, goals=options.goals)
    controls = (
        dataclasses.replace(goals, entrant="optimal goals without actor", actor=False),
        dataclasses.replace(goals, entrant="optimal goals without slopes", slopes=False),
    )
    targets, whole = options.frontier_targets, options.rival_rollouts
    jobs: list[AnyJob] = []
    for seed in range(options.seeds):
        jobs += [
            GoalsJob(
                recipe=recipe,
                own_target=options.goal_target,
                targets=targets,
                seed=seed,
                out=options.out,
            )
            for recipe in (goals, *controls)
        ]
        for target in targets:
            jobs += _cheap(options, target, seed)
            jobs += _split(options, whole // len(targets), ", rollouts split", target, seed)
    for seed in range(options.each_seeds):
        for target in targets:
            jobs += _split(options, whole, f", {whole} for each target", target, seed)
    return jobs


def profile_jobs(options: Options) -> list[AnyJob]:
    """Profiles that part `training` trains."""
    jobs: list[AnyJob] = []
    for seed in range(options.train_seeds):
        for target in options.train_targets:
            jobs += [_optimal(options, target, seed)]
            jobs += _cheap(options, target, seed, TRAINED)
    return jobs


def tuned_jobs(options: Options) -> list[AnyJob]:
    """Profiles that part `finetuning` trains."""
    jobs: list[AnyJob] = []
    for seed in range(options.seeds):
        jobs += [_optimal(options, options.tuning_target, seed)]
        jobs += [
            TunedJob(
                steps=steps,
                rollouts=options.slope_rollouts,
                target=options.tuning_target,
                seed=seed,
                rescored=options.rescored,
                out=options.out,
            )
            for steps in options.tuning_steps
        ]
    return jobs


def _optimal(options: Options, target: float, seed: int) -> SearchJob:
    return _search(options, optimal(options.slope_rollouts), target, seed)


def _search(options: Options, recipe: Recipe, target: float, seed: int) -> SearchJob:
    return SearchJob(
        recipe=recipe, target=target, seed=seed, rescored=options.rescored, out=options.out
    )


def _rivals(options: Options) -> list[Recipe]:
    found = [rival(name, options.rival_rollouts) for name in RIVALS]
    return [*found, bayesian_with_own(options.rival_rollouts)]


def _split(
    options: Options, rollouts: int, label: str, target: float, seed: int
) -> list[SearchJob]:
    return [
        SearchJob(
            recipe=rival(name, rollouts, label=label),
            target=target,
            seed=seed,
            rescored=0,
            out=options.out,
        )
        for name in RIVALS
    ]


def _cheap(
    options: Options, target: float, seed: int, names: Sequence[str] = CHEAP
) -> list[CheapJob]:
    from ws_learner.config import PROTOCOLS

    return [
        CheapJob(protocol=name, target=target, seed=seed, out=options.out)
        for name in names
        if name in PROTOCOLS
    ]
