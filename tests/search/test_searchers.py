"""Every searcher: exact budgets, bounds, exemptions, one answer per seed, interrupted or not."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agents.proposer import SEED, ranked, step_size
from envs.problem import IntArray, Score
from tests.support.searchers import MAKERS, PER_ROUND, RLOUTS, plain, searched, small_problem
from ws_learner.search import loop
from ws_learner.search.history import Rollout, best, distinct_best, to_plain

searchers = pytest.mark.parametrize("name", MAKERS)


@searchers
def test_budget_bounds_and_exemptions_hold(name: str, tmp_path: Path) -> None:
    problem, evaluator = small_problem()
    history = searched(name, tmp_path, problem)
    assert len(history) == evaluator.evaluations == RLOUTS
    assert [rollout.kind for rollout in history[:4]].count(SEED) == 3  # equal seeds count once
    for rollout in history:
        assert rollout.zeros.dtype == np.int64
        assert rollout.zeros.sum() == problem.budget
        assert np.all((problem.lower <= rollout.zeros) & (rollout.zeros <= problem.upper))
        assert rollout.zeros[-1] == 0
    table = pd.read_csv(tmp_path / "rollouts.csv")
    assert table["reward"].tolist() == [rollout.score.reward for rollout in history]


@pytest.mark.long
@searchers
def test_one_seed_one_answer(name: str, tmp_path: Path) -> None:
    problem, _ = small_problem()
    first = plain(searched(name, tmp_path / "a", problem))
    assert first == plain(searched(name, tmp_path / "b", problem))
    assert first != plain(searched(name, tmp_path / "c", problem, seed=1))


@pytest.mark.long
@searchers
@pytest.mark.parametrize("rounds", [1, 3])
def test_interrupted_and_resumed_is_undisturbed(name: str, tmp_path: Path, rounds: int) -> None:
    problem, evaluator = small_problem()
    whole = plain(searched(name, tmp_path / "whole", problem))
    calls = 0

    def break_off(candidates: Sequence[IntArray]) -> list[Score]:
        nonlocal calls
        calls += 1
        if calls > rounds:
            raise KeyboardInterrupt
        return evaluator(candidates)

    broken = dataclasses.replace(problem, evaluate=break_off)
    with pytest.raises(KeyboardInterrupt):
        searched(name, tmp_path / "broken", broken)
    assert plain(searched(name, tmp_path / "broken", problem)) == whole


@searchers
def test_a_finished_search_scores_nothing_again(name: str, tmp_path: Path) -> None:
    problem, evaluator = small_problem()
    whole = plain(searched(name, tmp_path, problem))
    before = evaluator.evaluations
    assert plain(searched(name, tmp_path, problem)) == whole
    assert evaluator.evaluations == before


@searchers
def test_fewer_rollouts_than_cheap_profiles(name: str, tmp_path: Path) -> None:
    problem, _ = small_problem()
    history = searched(name, tmp_path, problem, rollouts=2)
    assert [rollout.kind for rollout in history] == [SEED, SEED]


@searchers
def test_failed_candidates_do_not_stop_or_win_the_search(name: str, tmp_path: Path) -> None:
    problem, evaluator = small_problem()

    def every_third_fails(candidates: Sequence[IntArray]) -> list[Score]:
        scores = evaluator(candidates)
        bad = Score(reward=1e9, accuracy=0, accuracy_before=0, divergence=0, failed="broken")
        return [bad if int(z[3]) % 3 == 0 else s for z, s in zip(candidates, scores, strict=True)]

    broken = dataclasses.replace(problem, evaluate=every_third_fails)
    history = searched(name, tmp_path, broken)
    assert len(history) == RLOUTS
    assert all(rollout.zeros.sum() == problem.budget for rollout in history)
    assert any(rollout.score.failed for rollout in history)
    assert best(history).score.reward == max(r.score.reward for r in history if not r.score.failed)
    assert not any(rollout.score.failed for rollout in distinct_best(history, RLOUTS))


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "optimal"])
def test_without_a_fixed_total_the_bounds_still_hold(name: str, tmp_path: Path) -> None:
    problem, _ = small_problem()
    free = dataclasses.replace(problem, exact=False)
    history = searched(name, tmp_path, free)
    for rollout in history:
        assert np.all((problem.lower <= rollout.zeros) & (rollout.zeros <= problem.upper))
    totals = {int(rollout.zeros.sum()) for rollout in history}
    assert len(totals) > 1


def test_optimal_needs_a_fixed_total() -> None:
    problem, _ = small_problem()
    with pytest.raises(ValueError, match="fixed total"):
        MAKERS["optimal"](dataclasses.replace(problem, exact=False), seed=0)


@searchers
def test_a_single_layer_to_decide_is_no_trouble(name: str, tmp_path: Path) -> None:
    problem, _ = small_problem()
    lower, upper = problem.prior.copy(), problem.prior.copy()
    lower[4], upper[4] = 0, problem.weights[4]
    history = searched(name, tmp_path, dataclasses.replace(problem, lower=lower, upper=upper))
    assert [rollout.zeros.tolist() for rollout in history] == [problem.prior.tolist()]


@pytest.mark.parametrize("name", ["random", "evolution", "bayesian"])
def test_searching_pays(name: str, tmp_path: Path) -> None:
    problem, evaluator = small_problem(seed=1)
    history = searched(name, tmp_path, problem, rollouts=60)
    start = max(r.score.reward for r in history if r.kind == SEED)
    best = max(r.score.reward for r in history)
    assert best - start > 0.1 * abs(start)
    assert evaluator.evaluations == 60


def rollout(kind: str, reward: float, zeros: int = 0, *, failed: str = "") -> Rollout:
    score = Score(reward=reward, accuracy=0, accuracy_before=0, divergence=0, failed=failed)
    return Rollout(kind=kind, zeros=np.array([zeros]), score=score)


def test_ranking_leaves_out_failures_and_repetitions() -> None:
    history = [rollout("a", 1, 1), rollout("b", 3, 2), rollout("c", 3, 3), rollout("d", 1, 1)]
    history.append(rollout("e", 9, 4, failed="broken"))
    assert [trial.kind for trial in ranked(history)] == ["b", "c", "a"]
    assert [trial.kind for trial in ranked(history[4:])] == ["e"]


def test_step_grows_with_success_and_shrinks_with_failure() -> None:
    def sized(trials: list[Rollout]) -> float:
        return step_size(trials, start=0.5, least=0.05, most=1.5)

    history = [rollout(SEED, 0), rollout(SEED, 1)]
    assert sized(history) == 0.5
    assert sized([*history, rollout("x", 2)]) > 0.5 > sized([*history, rollout("x", 1)])
    assert sized(history + [rollout("x", 0)] * 100) == 0.05
    # One success in five leaves it where it is.
    fifth = [rollout("x", 2), *[rollout("x", 0)] * 4]
    assert sized([*history, *fifth]) == pytest.approx(0.5)


def test_a_round_writes_the_table_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every writing takes time in proportion to all rollouts so far."""
    written: list[Path] = []

    def write(path: Path, text: str) -> None:
        written.append(path)
        path.write_text(text)

    monkeypatch.setattr(loop, "write_text", write)
    problem, _ = small_problem()
    history = searched("evolution", tmp_path, problem)
    rounds = 1 + math.ceil((len(history) - 3) / PER_ROUND)  # three distinct profiles come first
    assert written == [tmp_path / "rollouts.csv"] * rounds


def test_saved_rollouts_have_every_field_of_their_scores() -> None:
    score = Score(
        reward=0.1, accuracy=0.2, accuracy_before=0.3, divergence=None, slopes=(0.1, math.nan)
    )
    zeros: IntArray = np.array([3, 4], dtype=np.int64)
    saved = json.dumps(to_plain([Rollout(kind="model", zeros=zeros, score=score)]))
    expected = [{"kind": "model", "zeros": [3, 4], "score": dataclasses.asdict(score)}]
    assert saved == json.dumps(expected)
