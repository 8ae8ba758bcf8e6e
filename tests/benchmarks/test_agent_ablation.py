"""The arithmetic of the agent's ablation: costs, equal time, names, noise of training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.ablation_entrants import Recipe
from benchmarks.ablation_frontier import seconds_of_frontier
from benchmarks.ablation_history import Finished
from benchmarks.ablation_options import Options
from benchmarks.ablation_parts import (
    frontier_jobs,
    prefix_jobs,
    profile_jobs,
    search_jobs,
    tuned_jobs,
)
from benchmarks.ablation_searches import SearchJob
from benchmarks.ablation_training import AGAIN, noise_of_training, training_jobs

SEARCH = Finished(
    kinds=["prior", "prior", "model", "model"],
    zeros=[[4, 0], [2, 2], [4, 0], [3, 3]],
    rewards=[0.5, float("-inf"), 0.75, 0.9],
    rollout_seconds=[1.0, 2.0, 4.0, 8.0],
    proposal_seconds=[0.0, 0.0, 16.0, 0.0],
    own_seconds=32.0,
)


def test_a_round_costs_its_proposals_from_its_first_rollout_on() -> None:
    assert [SEARCH.seconds(count) for count in range(5)] == [32, 33, 35, 55, 63]
    assert SEARCH.costs()["seconds"] == SEARCH.seconds() == 63
    assert SEARCH.costs(3)["rollouts"] == 3
    assert [SEARCH.within(seconds) for seconds in (31, 35, 54.9, 55, 1e9)] == [0, 2, 2, 3, 4]


def test_the_best_are_distinct_scored_and_of_the_budget() -> None:
    assert SEARCH.ranked() == [3, 2]
    assert SEARCH.ranked(budget=4) == [2]
    assert SEARCH.ranked(count=2) == [0]


def test_a_finished_search_is_read_as_it_was_written(tmp_path: Path) -> None:
    SEARCH.save(tmp_path / "finished.json")
    assert Finished.load(tmp_path / "finished.json") == SEARCH


def test_jobs_of_a_table_have_names_of_their_own_and_searches_files_of_their_own() -> None:
    options = Options(slope_rollouts=14)  # as many as a rival's share of the frontier
    kinds = (search_jobs, prefix_jobs, frontier_jobs, profile_jobs, tuned_jobs)
    recipes: dict[str, Recipe] = {}
    for jobs in (jobs_of(options) for jobs_of in kinds):
        assert len({job.name for job in jobs}) == len(jobs)
        for job in jobs:
            if isinstance(job, SearchJob):
                same = recipes.setdefault(job.recipe.slug, job.recipe)
                named = (same.protocol, same.rollouts, same.own, same.slopes, same.actor)
                mine = job.recipe
                assert named == (mine.protocol, mine.rollouts, mine.own, mine.slopes, mine.actor)


def test_own_divergences_count_once_for_all_targets() -> None:
    rows = pd.DataFrame(
        {"entrant": "one", "target": target, "seed": seed, "rollouts": 2, "own_seconds": 8.0}
        | {"rollout_seconds": 1.0 + seed, "proposal_seconds": 0.5}
        for target in (0.8, 0.9, 0.95)
        for seed in (0, 1)
    )
    found = seconds_of_frontier(rows).iloc[0]
    assert found["seconds"] == pytest.approx(8 + 3 * (1.5 + 0.5))
    assert found["rollouts"] == 6


def test_one_profile_is_trained_again_and_only_it_measures_the_noise() -> None:
    rows = pd.DataFrame(
        {"entrant": name, "target": 0.95, "seed": seed, "chosen": f"{seed} 7"}
        for name in ("optimal", "divergence")
        for seed in (0, 1)
    )
    jobs = training_jobs(rows, nb_epochs=0.5, repeated=(0.95,))
    again = [job for job in jobs if job.name == AGAIN]
    assert {job.zeros for job in again} == {(0, 7)}
    assert len({job.seed for job in again} | {0}) == 3
    accuracy = {("divergence", 0): 0.1, (AGAIN, again[0].seed): 0.2, (AGAIN, again[1].seed): 0.3}
    trained = pd.DataFrame(
        {"name": job.name, "target": 0.95, "accuracy": accuracy.get((job.name, job.seed), 9.0)}
        | {"seed": job.seed}
        for job in jobs
    )
    noise = noise_of_training(trained).iloc[0]
    assert (noise["count"], noise["mean"], noise["std"]) == pytest.approx((3, 0.2, 0.1))
