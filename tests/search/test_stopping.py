"""A search ends where nothing rises, or by time; rollouts at other targets do not count."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.proposer import Proposal, Stateless, Trial
from agents.random_search import RandomSearch
from envs.budget import project
from envs.problem import AllocationProblem, IntArray, Score
from tests.support.searchers import plain, seeds_of, small_problem
from ws_learner.config import WeightSparseConfig, parse_duration
from ws_learner.core import UserError, load_state_file, save_state_file
from ws_learner.search.history import Rollout, best, from_plain, to_plain
from ws_learner.search.loop import Search
from ws_learner.search.stopping import rounds_without_gain

SEEDS, PER_ROUND = 3, 4


def search(problem: AllocationProblem, folder: Path, **changes: Any) -> Search:
    settings: dict[str, Any] = {
        "problem": problem,
        "proposer": RandomSearch(problem, seed=0),
        "seeds": seeds_of(problem),
        "rollouts": 60,
        "per_round": PER_ROUND,
        "state": folder / "search.pt",
        "table": folder / "rollouts.csv",
    }
    return Search(**settings | changes)


def rewarding(reward: Callable[[int, IntArray], float]) -> AllocationProblem:
    """A problem whose rewards depend on the number of the round, from 0, and the zeros."""
    rounds = -1

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        nonlocal rounds
        rounds += 1
        return [scored(reward(rounds, zeros)) for zeros in candidates]

    return dataclasses.replace(small_problem()[0], evaluate=evaluate)


def scored(reward: float, **more: Any) -> Score:
    return Score(reward=reward, accuracy=0, accuracy_before=0, divergence=0, **more)


def rounds_of(*rewards: Sequence[float]) -> list[list[Rollout]]:
    """NaN stands for a failure."""
    zeros = np.array([1])
    return [
        [
            Rollout(kind="x", zeros=zeros, score=scored(9.0 if math.isnan(r) else r, failed=bad))
            for r in row
            for bad in ["broken" if math.isnan(r) else ""]
        ]
        for row in rewards
    ]


@pytest.mark.parametrize(
    ("rewards", "still"),
    [
        ([[0.5]], 0),
        ([[0.5], [0.4], [0.5009]], 2),  # a gain of less than 0.001 is none
        ([[0.5], [0.5006], [0.5012]], 0),  # but small gains add up
        ([[0.5], [0.6, 0.1], [0.59], [0.2]], 2),
        ([[0.5], [], []], 0),  # rounds without a rollout at the target
        ([[0.5], [math.nan]], 1),
        ([[math.nan], [0.1]], 0),
        ([[-3.0], [-2.0]], 0),
    ],
)
def test_rounds_since_the_best_rose(rewards: list[list[float]], still: int) -> None:
    assert rounds_without_gain(rounds_of(*rewards)) == still


def test_patience_ends_the_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = search(rewarding(lambda number, _: min(number, 2)), tmp_path, patience=5)
    history = found.run()
    assert len(history) == SEEDS + (2 + 5) * PER_ROUND  # rises in rounds 1 and 2
    assert found.stopped == "patience"
    assert "ended after 31 of 60 rollouts: the best reward has not risen by more than 0.001 " in (
        capsys.readouterr().err
    )
    again = search(rewarding(lambda number, _: 1), tmp_path, patience=5)
    assert plain(again.run()) == plain(history)
    assert again.stopped == "patience"


def test_patience_counts_rounds_of_an_interrupted_search(tmp_path: Path) -> None:
    def stop(number: int, zeros: IntArray) -> float:
        if number == 3:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        search(rewarding(stop), tmp_path, patience=5).run()
    history = search(rewarding(lambda number, _: 0.5), tmp_path, patience=5).run()
    assert len(history) == SEEDS + 5 * PER_ROUND


def test_without_patience_the_rollouts_are_used_up(tmp_path: Path) -> None:
    found = search(rewarding(lambda number, _: 0.5), tmp_path)
    assert len(found.run()) == 60
    assert found.stopped == "rollouts"


def test_time_ends_the_search_over_all_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0

    def one(candidates: Sequence[IntArray]) -> list[Score]:
        """A round takes ten seconds; from `stop` on it is broken off."""
        nonlocal now
        if now >= stop:
            raise KeyboardInterrupt
        now += 10
        return [scored(0.5)] * len(candidates)

    problem = dataclasses.replace(small_problem()[0], evaluate=one)
    stop = 20.0
    with pytest.raises(KeyboardInterrupt):
        search(problem, tmp_path, seconds=35, clock=lambda: now).run()
    now, stop = 1000.0, math.inf  # the pause does not count
    found = search(problem, tmp_path, seconds=35, clock=lambda: now)
    assert len(found.run()) == SEEDS + 3 * PER_ROUND  # rounds begin at 0, 10, 20, 30
    assert found.stopped == "time"
    assert "`ws_search_time` is over; the result depends on the speed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90s", 90), ("10m", 600), ("1.5h", 5400), ("600", 600), (" 2 M ", 120), (".5s", 0.5)),
        *((60, 60), (0.5, 0.5)),  # numbers, as YAML reads them
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert WeightSparseConfig(ws_search_time=text).ws_search_time == text


@pytest.mark.parametrize(
    "text", ["", "0", "10x", "-5m", "1h30", "nan", "inf", "9" * 400, "m", 0.0, -5.0]
)
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(UserError, match=r"`ws_search_time` .*a time above 0, such as 90s, 10m"):
        WeightSparseConfig(ws_search_time=text)


def test_a_state_file_of_an_earlier_version_opens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = plain(search(rewarding(lambda *_: 0.5), tmp_path, rollouts=15).run())
    saved = load_state_file(tmp_path / "search.pt")
    kept = {name: saved[name] for name in ("proposer", "history", "rewarded")}
    save_state_file(tmp_path / "search.pt", kept)
    history = search(rewarding(lambda *_: 0.5), tmp_path, patience=2).run()
    assert plain(history[:15]) == begun
    assert len(history) == 15 + 2 * PER_ROUND  # the earlier rollouts are one round
    assert "begun by an earlier version; the search goes on by today's rules" in (
        capsys.readouterr().err
    )


class Milder(Stateless):
    """Proposes profiles of another target, which score higher."""

    def __init__(self, problem: AllocationProblem) -> None:
        self._problem = problem

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        problem, rng = self._problem, np.random.default_rng(len(history))
        return [
            Proposal(
                "milder",
                project(
                    problem.weights * rng.uniform(0.5, 0.8, len(problem.weights)),
                    budget=problem.budget // 2,
                    lower=problem.lower * 0,
                    upper=problem.upper,
                    weights=problem.weights,
                ),
            )
            for _ in range(count)
        ]


def test_only_rollouts_at_the_target_are_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem, _ = small_problem()
    made = rewarding(lambda _, zeros: 0.25 if zeros.sum() == problem.budget else 0.75)
    found = search(made, tmp_path, proposer=Milder(problem), rollouts=11, patience=1)
    history = found.run()
    assert len(history) == 11  # rounds at another target do not use patience up
    assert {int(r.zeros.sum()) for r in history} == {problem.budget, problem.budget // 2}
    assert [r.kind for r in found.at_target()] == ["prior"] * SEEDS
    assert best(found.at_target()).score.reward == 0.25
    assert "reward 0.2500" in capsys.readouterr().err
    free = dataclasses.replace(made, exact=False)
    assert len(search(free, tmp_path / "free", rollouts=11).run()) == 11
    assert len(dataclasses.replace(found, problem=free).at_target()) == 0  # nothing run yet


def test_a_search_with_nothing_at_the_target_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem, _ = small_problem()
    seeds = {"other": Milder(problem).propose([], 1)[0].zeros}
    found = search(rewarding(lambda *_: 0.5), tmp_path, proposer=Milder(problem), seeds=seeds)
    found.rollouts, found.patience = 9, 1
    found.run()
    assert found.at_target() == []
    assert "none at the target yet" in capsys.readouterr().err


def test_slopes_are_kept_but_are_no_column(tmp_path: Path) -> None:
    problem, _ = small_problem()
    score = scored(0.5, slopes=(0.25, -1e-3))
    made = dataclasses.replace(problem, evaluate=lambda some: [score] * len(some))
    history = search(made, tmp_path, rollouts=3).run()
    again = search(made, tmp_path, rollouts=3).run()
    assert (
        [r.score.slopes for r in again] == [r.score.slopes for r in history] == [(0.25, -1e-3)] * 3
    )
    assert "slopes" not in (tmp_path / "rollouts.csv").read_text()
    old = to_plain(history)
    for row in old:
        del row["score"]["slopes"]
    assert from_plain(old)[0].score.slopes is None
