"""No profile is scored twice: a near neighbour takes its place, or the search ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from agents.proposer import Proposal, Proposer, Stateless, Trial, ranked
from envs.problem import AllocationProblem, IntArray, Score
from tests.support.searchers import plain, seeds_of, small_problem
from ws_learner.search.loop import Search
from ws_learner.search.new_profiles import SPREAD, jittered


class Repeats(Stateless):
    """Proposes the best profile so far, or another one, as often as it is asked."""

    def __init__(self, change: Callable[[IntArray], IntArray] = lambda zeros: zeros) -> None:
        self._change = change

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        return [Proposal("mutation", self._change(ranked(history)[0].zeros))] * count


def search(problem: AllocationProblem, folder: Path, **changes: Any) -> Search:
    settings: dict[str, Any] = {
        "problem": problem,
        "proposer": Repeats(),
        "seeds": seeds_of(problem),
        "rollouts": 60,
        "per_round": 4,
        "state": folder / "search.pt",
        "table": folder / "rollouts.csv",
    }
    return Search(**settings | changes)


def test_every_row_has_a_profile_of_its_own(tmp_path: Path) -> None:
    problem, evaluator = small_problem()
    found = search(problem, tmp_path)
    history = found.run()
    table = pd.read_csv(tmp_path / "rollouts.csv").filter(like="zeros/")
    assert len(table) == len(table.drop_duplicates()) == evaluator.evaluations == 60
    assert found.stopped == "rollouts"
    for rollout in history:
        assert rollout.zeros.sum() == problem.budget
        assert np.all((problem.lower <= rollout.zeros) & (rollout.zeros <= problem.upper))
    assert {int(rollout.zeros[1]) for rollout in history} == {1500}  # its bounds coincide


def test_the_neighbour_is_near(tmp_path: Path) -> None:
    problem, _ = small_problem()
    history = search(problem, tmp_path, rollouts=7).run()
    best = max((r for r in history[:3]), key=lambda r: r.score.reward).zeros
    for rollout in history[3:]:
        kept, before = problem.weights - rollout.zeros, problem.weights - best
        assert np.abs(np.log(kept / before)).max() < 6 * SPREAD
        assert rollout.kind == "mutation"


def test_interrupted_or_not_the_neighbours_are_the_same(tmp_path: Path) -> None:
    problem, evaluator = small_problem()
    whole = plain(search(problem, tmp_path / "whole", rollouts=20).run())
    calls = 0

    def break_off(candidates: Sequence[IntArray]) -> list[Score]:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return evaluator(candidates)

    broken = dataclasses.replace(problem, evaluate=break_off)
    with pytest.raises(KeyboardInterrupt):
        search(broken, tmp_path / "parts", rollouts=20).run()
    assert plain(search(problem, tmp_path / "parts", rollouts=20).run()) == whole
    assert plain(search(problem, tmp_path / "other", rollouts=20, seed=1).run()) != whole


def tiny_space() -> AllocationProblem:
    """Two layers that keep a few weights; three profiles meet the budget, a third layer is held."""
    problem, _ = small_problem()
    lower, upper = problem.prior.copy(), problem.prior.copy()
    lower[3:5] -= [1, 1]
    upper[3:5] += [1, 1]
    return dataclasses.replace(problem, lower=lower, upper=upper)


def test_a_space_without_new_profiles_ends_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = tiny_space()
    found = search(problem, tmp_path)
    profiles = {tuple(rollout.zeros.tolist()) for rollout in found.run()}
    moved = [np.array([0, 0, 0, step, -step, 0, 0, 0]) for step in (-1, 0, 1)]
    assert profiles == {tuple((problem.prior + step).tolist()) for step in moved}
    assert len(profiles) == len(found.history)
    assert found.stopped == "exhausted"
    assert f"ended after {len(profiles)} of 60 rollouts: the proposals have no new" in (
        capsys.readouterr().err
    )


def test_a_failed_profile_is_not_tried_again(tmp_path: Path) -> None:
    problem, evaluator = small_problem()
    tried: list[bytes] = []

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        fails = [zeros.tobytes() == problem.prior.tobytes() for zeros in candidates]
        tried.extend(zeros.tobytes() for zeros in candidates)
        return [
            dataclasses.replace(score, failed="broken" if bad else "")
            for bad, score in zip(fails, evaluator(candidates), strict=True)
        ]

    broken = dataclasses.replace(problem, evaluate=evaluate)
    stubborn: Proposer = Repeats(lambda _: problem.prior)
    search(broken, tmp_path, proposer=stubborn, rollouts=12).run()
    assert tried.count(problem.prior.tobytes()) == 1
    assert len(set(tried)) == len(tried) == 12


def test_profiles_that_a_pattern_makes_alike_count_as_one(tmp_path: Path) -> None:
    problem, _ = small_problem()

    def units(zeros: IntArray) -> IntArray:
        return zeros // 50 * 50

    history = search(problem, tmp_path, in_units=units, rollouts=30).run()
    assert len({units(rollout.zeros).tobytes() for rollout in history}) == 30


def test_a_neighbour_keeps_the_total_of_its_profile() -> None:
    problem, _ = small_problem()
    fewer = problem.prior - np.array([0, 0, 100, 0, 200, 0, 0, 0])
    noise = 0.1 * np.array([1, 1, -1, 1, 1, -1, 1, 1])
    near = jittered(fewer, noise, problem=problem)
    assert near.sum() == fewer.sum() == problem.budget - 300
    assert np.all((problem.lower <= near) & (near <= problem.upper))
    assert near.tolist() != fewer.tolist()
