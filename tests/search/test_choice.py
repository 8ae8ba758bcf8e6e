"""The choice among finalists: means over paired jitters, ties, and the simplest of those level."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from agents.proposer import SEED
from envs.budget import project
from envs.problem import AllocationProblem, IntArray, Score
from tests.support.rollout_parts import accuracy, tiny_data, tiny_network
from tests.support.searchers import small_problem
from tests.support.synthetic_problem import synthetic_problem
from ws_learner import Recipe, UserError, WeightSparseConfig, WeightSparseLearner
from ws_learner.report import read_rollouts, write_report
from ws_learner.search import choice
from ws_learner.search.choice import (
    Finals,
    choose,
    level_with_best,
    score_finalists,
    simplest,
    take_finalists,
)
from ws_learner.search.history import Rollout
from ws_learner.search.new_profiles import SPREAD


def scored(reward: float, **more: Any) -> Score:
    values = {"accuracy": reward, "accuracy_before": reward, "divergence": -reward} | more
    return Score(reward=reward, **values)


def finalist(zeros: IntArray, kind: str = "model", reward: float = 0.5) -> Rollout:
    return Rollout(kind=kind, zeros=zeros, score=scored(reward))


def same(zeros: IntArray) -> IntArray:
    return zeros


def profiles(problem: AllocationProblem, count: int) -> list[IntArray]:
    rng = np.random.default_rng(0)
    return [
        project(
            problem.weights * rng.uniform(0.85, 0.97, len(problem.weights)),
            budget=problem.budget,
            lower=problem.lower,
            upper=problem.upper,
            weights=problem.weights,
        )
        for _ in range(count)
    ]


def finals_of(
    problem: AllocationProblem,
    evaluate: Callable[[Sequence[IntArray]], list[Score]],
    finalists: Sequence[Rollout],
    **changes: Any,
) -> Finals:
    settings = {"in_units": same, "jitters": 3, "seed": 0, "together": 4} | changes
    return score_finalists(finalists, problem=problem, evaluate=evaluate, **settings)


def test_the_best_profile_the_search_started_from_is_always_a_finalist() -> None:
    problem, _ = synthetic_problem(target=0.9)
    *started, a, b, c = profiles(problem, 5)
    found = [
        finalist(zeros, SEED, reward) for zeros, reward in zip(started, (0.2, 0.3), strict=True)
    ]
    found += [finalist(zeros, "model", reward) for zeros, reward in ((a, 0.5), (b, 0.6), (c, 0.4))]
    taken = take_finalists(found, problem, count=3)
    assert [rollout.score.reward for rollout in taken] == [0.6, 0.5, 0.3]
    assert [r.score.reward for r in take_finalists(found, problem, count=1)] == [0.6]
    assert [r.score.reward for r in take_finalists(found, problem, count=4)] == [0.6, 0.5, 0.4, 0.3]
    again = [*found, finalist(started[1], SEED, 0.7)]  # it is the best: nobody gives way
    assert [r.score.reward for r in take_finalists(again, problem, count=3)] == [0.7, 0.6, 0.5]
    only = [rollout for rollout in found if rollout.kind != SEED]
    assert [r.score.reward for r in take_finalists(only, problem, count=2)] == [0.6, 0.5]


def test_copies_are_paired_near_and_at_the_target() -> None:
    problem, evaluator = synthetic_problem(target=0.9)
    tried: list[IntArray] = []
    chunks: list[int] = []

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        tried.extend(candidates)
        chunks.append(len(candidates))
        return evaluator(candidates)

    # Profiles far from every bound, of layers large enough for rounding not to show.
    large = problem.weights > 2000
    lower, upper = problem.prior.copy(), problem.prior.copy()
    lower[large], upper[large] = 0, problem.weights[large]
    problem = dataclasses.replace(problem, lower=lower, upper=upper)
    points = profiles(problem, 3)
    finals = finals_of(problem, evaluate, [finalist(zeros) for zeros in points])
    assert (len(tried), chunks) == (9, [4, 4, 1])
    moves = []
    for place, copy in enumerate(tried):
        before = points[place // 3]
        assert copy.sum() == problem.budget
        assert (copy[~large] == problem.prior[~large]).all()
        move = np.log((problem.weights - copy)[large] / (problem.weights - before)[large])
        moves.append(move - move.mean())  # the projection shifts all of them alike
    for jitter in range(3):
        np.testing.assert_allclose(moves[jitter], moves[3 + jitter], atol=0.01)
        np.testing.assert_allclose(moves[jitter], moves[6 + jitter], atol=0.01)
    assert np.std(moves[:3]) == pytest.approx(SPREAD, rel=0.3)
    rewards = np.array([evaluator.reward(zeros) for zeros in tried]).reshape(3, 3)
    np.testing.assert_allclose(finals.rewards, rewards)
    for row, zeros, own in zip(finals.rows, points, rewards, strict=True):
        assert (row.kind, row.zeros.tolist()) == ("select", zeros.tolist())
        assert row.score.reward == pytest.approx(own.mean())
    again = finals_of(problem, evaluator, [finalist(zeros) for zeros in points], together=1)
    assert (again.rewards == finals.rewards).all()
    other = finals_of(problem, evaluator, [finalist(zeros) for zeros in points], seed=1)
    assert (other.rewards != finals.rewards).all()


def test_a_lucky_spike_is_not_chosen() -> None:
    problem, _ = small_problem()
    spike, smooth = profiles(problem, 2)

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        near = [np.abs(zeros - smooth).sum() < np.abs(zeros - spike).sum() for zeros in candidates]
        lucky = [zeros.tolist() == spike.tolist() for zeros in candidates]
        return [scored(0.5 + 0.02 * b + 0.05 * a) for a, b in zip(lucky, near, strict=True)]

    finalists = [finalist(spike, reward=0.55), finalist(smooth, reward=0.52)]
    assert choose(finals_of(problem, evaluate, finalists, jitters=0), problem=problem) == 0
    assert choose(finals_of(problem, evaluate, finalists), problem=problem) == 1


@pytest.mark.parametrize(
    ("rewards", "level"),
    [
        # Means 0.6000 and 0.5985: closer than 0.002.
        ([[0.60, 0.60, 0.60], [0.5985, 0.5985, 0.5985]], [0, 1]),
        ([[0.60, 0.60, 0.60], [0.5970, 0.5970, 0.5970]], [0]),
        # Differences 0.02, -0.02, 0.03: mean 0.01, standard error 0.0265 / sqrt(3) = 0.0153.
        ([[0.62, 0.58, 0.63], [0.60, 0.60, 0.60]], [0, 1]),
        # Rough, but alike in both: differences 0.01, 0.011, 0.009, standard error 0.0006.
        ([[0.70, 0.40, 0.60], [0.69, 0.389, 0.591]], [0]),
        ([[0.60, 0.60, 0.60], [-np.inf] * 3, [0.61, 0.61, 0.61]], [2]),
        ([[0.60], [0.599], [0.59]], [0, 1]),  # one jitter: no standard error
    ],
)
def test_what_counts_as_level(rewards: list[list[float]], level: list[int]) -> None:
    assert level_with_best(np.array(rewards)) == level


def test_the_simplest_is_closed_form_then_nearest_to_uniform() -> None:
    weights = np.array([100, 100, 200])
    uniform, near, far = ([50, 50, 100], [55, 45, 100], [90, 10, 100])

    def place(*some: tuple[str, list[int]]) -> int:
        return simplest([finalist(np.array(z), kind) for kind, z in some], weights=weights)

    assert place(("model", far), ("agent", near), ("model", uniform)) == 2
    assert place(("model", uniform), (SEED, far), (SEED, near)) == 2
    assert place(("model", near), ("agent", [45, 55, 100])) == 0  # equally near: the better one
    # |ln| of densities 0.4, 0.6, 0.5 over 0.5, by size: (0.223 + 0.182) / 4 = 0.101; of 0.44, 0.44
    # and 0.56: (0.128 + 0.128 + 2 x 0.113) / 4 = 0.121. Without the sizes it would be 0.135, 0.123.
    assert place(("model", [60, 40, 100]), ("model", [56, 56, 88])) == 0


def test_the_simplest_of_those_level_is_chosen() -> None:
    problem, _ = small_problem()
    best, level, worse = profiles(problem, 3)
    finalists = [finalist(best), finalist(level, SEED), finalist(worse, SEED)]
    rewards = np.array([[0.600, 0.610], [0.599, 0.609], [0.590, 0.600]])
    rows = tuple(
        Rollout(kind="select", zeros=one.zeros, score=scored(float(own.mean())))
        for one, own in zip(finalists, rewards, strict=True)
    )
    finals = Finals(finalists=tuple(finalists), rows=rows, rewards=rewards, jitters=2)
    assert choose(finals, problem=problem) == 1
    alone = dataclasses.replace(finals, jitters=0)
    assert choose(alone, problem=problem) == 0


def test_where_jitter_changes_no_unit_the_point_is_scored_once() -> None:
    problem, evaluator = small_problem()

    def units(zeros: IntArray) -> IntArray:
        return (zeros > problem.weights / 2) * problem.weights

    points = [finalist(zeros) for zeros in (problem.prior, problem.weights - problem.prior)]
    finals = finals_of(problem, lambda some: evaluator([units(z) for z in some]), points,
                       in_units=units)  # fmt: skip
    assert evaluator.evaluations == 2
    assert (finals.rewards == finals.rewards[:, :1]).all()


def test_a_finalist_with_a_failed_copy_is_not_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    problem, _ = small_problem()
    points = [finalist(zeros) for zeros in profiles(problem, 2)]
    number = 0

    def second_fails(candidates: Sequence[IntArray]) -> list[Score]:
        nonlocal number
        number += 1
        bad = dataclasses.replace(scored(9.0), failed="OSError: gone")
        return [bad if number == 2 else scored(0.1)]

    finals = finals_of(problem, second_fails, points, together=1)
    assert [row.score.failed for row in finals.rows] == ["OSError: gone", ""]
    assert choose(finals, problem=problem) == 1
    assert "1 of 2 rollouts failed on the select split" in capsys.readouterr().err

    def all_fail(candidates: Sequence[IntArray]) -> list[Score]:
        return [dataclasses.replace(scored(9.0), failed="OSError: gone")] * len(candidates)

    with pytest.raises(UserError, match="all 2 rollouts failed on the select split"):
        choose(finals_of(problem, all_fail, points), problem=problem)


# ---- through the learner


def learner(folder: Path, **settings: Any) -> WeightSparseLearner:
    torch.manual_seed(0)
    small: dict[str, Any] = {"ws_nb_rlouts": 12, "ws_nb_rlouts_min": 6, "ws_nb_smpls_rg": 32}
    return WeightSparseLearner(
        tiny_network().eval(),
        tiny_data(),
        loss=functional.cross_entropy,
        metric=accuracy,
        recipe=Recipe(nb_epochs=1, batch_size=32),
        config=WeightSparseConfig(
            ws_prune_ratio=0.6, ws_prune_ratio_prtl="random", **small | settings
        ),
        run_dir=folder,
        workers=0,
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))


def test_a_choice_broken_off_is_made_again_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learner(tmp_path / "whole").allocate()
    table = read_rollouts(tmp_path / "whole" / "rollouts.csv")
    assert (table["kind"] == "select").sum() == 4
    profile = table.filter(like="zeros/").to_numpy()
    assert len(np.unique(profile[table["kind"] != "select"], axis=0)) == whole.rollouts == 12
    assert whole.chosen is not None
    assert profile[whole.chosen].tolist() == whole.zeros.tolist()

    def broken(*args: Any, **more: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(choice, "level_with_best", broken)
        with pytest.raises(KeyboardInterrupt):
            learner(tmp_path / "parts").allocate()
    again = learner(tmp_path / "parts").allocate()
    assert (again.zeros.tolist(), again.chosen) == (whole.zeros.tolist(), whole.chosen)


def test_summary_and_report_say_why_a_search_ended(tmp_path: Path) -> None:
    result = learner(tmp_path, ws_patience=1, ws_nb_rlouts=60, ws_rlouts_per_round=2).fit()
    assert result.summary["search_stopped"] == "patience"
    assert result.summary["rollouts"] < 60
    report = write_report(tmp_path).read_text()
    assert "ended early, the best reward stopped rising" in report
    assert f"Chosen: rollout {result.summary['chosen_rollout']} (" in report
