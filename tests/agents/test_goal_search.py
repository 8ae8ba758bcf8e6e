"""The goal-conditioned search and its policy: budgets, failures, targets, one answer."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents.goal_search import GoalSearch
from agents.profile_policy import ProfilePolicy
from agents.proposer import Proposal
from agents.settle import whole_profile
from envs.budget import project
from envs.problem import AllocationProblem, IntArray, Score
from envs.pruning_env import PruningEnv
from tests.support.divergence_problem import divergence_problem
from tests.support.slope_nets import real_problem, slope_evaluator, trained
from ws_learner.search.history import Rollout
from ws_learner.search.loop import Search
from ws_learner.search.rollout.local_pool import LocalPool

TARGETS = (0.75, 0.85, 0.9, 0.95)


def seeds_of(problem: AllocationProblem, count: int = 3) -> dict[str, IntArray]:
    rng, sizes, found = np.random.default_rng(0), problem.weights, {"prior": problem.prior}
    for number in range(count - 1):
        found[f"seed {number}"] = project(
            sizes * np.clip(problem.target + rng.normal(0, 0.05, len(sizes)), 0.3, 0.99),
            budget=problem.budget,
            lower=problem.lower,
            upper=problem.upper,
            weights=sizes,
        )
    return found


def rolled(
    problem: AllocationProblem, zeros: Sequence[IntArray], kind: str = "prior"
) -> list[Rollout]:
    scores = problem.evaluate(zeros)
    return [
        Rollout(kind=kind, zeros=profile, score=score)
        for profile, score in zip(zeros, scores, strict=True)
    ]


def run(
    problem: AllocationProblem,
    folder: Path,
    *,
    rollouts: int = 14,
    per_round: int = 4,
    seed: int = 0,
    **options: Any,
) -> list[Rollout]:
    return Search(
        problem=problem,
        proposer=GoalSearch(problem, seed=seed, rollouts=rollouts, updates=5, **options),
        seeds=seeds_of(problem),
        rollouts=rollouts,
        per_round=per_round,
        state=folder / "search.pt",
        table=folder / "rollouts.csv",
    ).run()


def plain(history: Sequence[Rollout]) -> list[tuple[str, list[int], float]]:
    return [(one.kind, one.zeros.tolist(), one.score.reward) for one in history]


def stirred(policy: ProfilePolicy) -> None:
    """Move the actor away from action 0."""
    actor = policy.agent.actor
    with torch.no_grad():
        actor.mu[-1].weight.normal_(0, 0.2, generator=torch.Generator().manual_seed(0))
        actor.free.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))


def test_a_walk_is_one_step_per_open_layer_and_the_computation_in_one_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, goals, evaluator = divergence_problem()
    policy = ProfilePolicy(problem, goals=goals, targets=TARGETS)
    stirred(policy)
    steps: list[float] = []
    step = PruningEnv.step

    def spy(self: PruningEnv, action: NDArray[np.float32]) -> Any:
        steps.append(float(action[0]))
        return step(self, action)

    monkeypatch.setattr(PruningEnv, "step", spy)
    space = policy.agent.goal_space()
    for row, target in enumerate(TARGETS):
        steps.clear()
        zeros = policy.walk(target)
        at = goals(target)
        assert len(steps) == (at.lower < at.upper).sum() == 7
        with torch.no_grad():
            actions = policy.agent.actor(space.observations[row])[:, 0]
            (wanted,) = space.wanted(np.array([row]), actions[None]).numpy()
        assert steps == pytest.approx(actions.tolist(), abs=1e-5)
        assert zeros.sum() == at.budget
        # A walk rounds every layer before the common factor, the batch once at the end.
        assert np.abs(zeros - whole_profile(wanted, at)).max() <= 2
        assert zeros.tolist() != at.prior.tolist()
    assert evaluator.evaluations == 0


def test_what_is_emitted_meets_every_budget_and_comes_in_order() -> None:
    problem, goals, evaluator = divergence_problem(seed=1)
    policy = ProfilePolicy(problem, goals=goals, targets=TARGETS)
    for target in TARGETS:
        for zeros in seeds_of(goals(target)).values():
            policy.observe(zeros, evaluator.score(zeros))
    policy.learn(20)
    for target in (0.7, 0.88, 0.9, 0.97):
        at, found = goals(target), policy.emit(target)
        assert {one.supplier for one in found} == {"prior", "agent", "rescaled", "critic"}
        assert [one.divergence for one in found] == sorted(one.divergence for one in found)
        for one in found:
            assert one.zeros.sum() == at.budget
            assert ((at.lower <= one.zeros) & (one.zeros <= at.upper)).all()
        true = evaluator.divergence(found[0].zeros)
        assert true < evaluator.divergence(at.prior)
        assert found[0].divergence == pytest.approx(true, rel=0.15)


def test_searching_pays_and_meets_the_budget(tmp_path: Path) -> None:
    problem, _, evaluator = divergence_problem(seed=2)
    history = run(problem, tmp_path, rollouts=14)
    for one in history:
        assert one.zeros.sum() == problem.budget
        assert ((problem.lower <= one.zeros) & (one.zeros <= problem.upper)).all()
        assert one.zeros[-1] == 0
    best = min(one.score.divergence or 0 for one in history)
    assert best < 0.8 * evaluator.divergence(problem.prior)


@pytest.mark.long
def test_interrupted_and_resumed_with_slopes_and_targets_is_undisturbed(tmp_path: Path) -> None:
    problem, goals, evaluator = divergence_problem()
    options: dict[str, Any] = {"goals": goals, "targets": TARGETS, "rollouts": 19}
    whole = run(problem, tmp_path / "whole", **options)
    # Counts of the targets searched; the last quarter goes to the problem's own.
    assert len({int(one.zeros.sum()) for one in whole}) == len(TARGETS)
    assert all(one.zeros.sum() == problem.budget for one in whole[-4:])
    for stop in (2, 4):
        calls = 0

        def break_off(candidates: Sequence[IntArray], stop: int = stop) -> list[Score]:
            nonlocal calls
            calls += 1
            if calls > stop:
                raise KeyboardInterrupt
            return evaluator(candidates)

        folder = tmp_path / f"{stop}"
        with pytest.raises(KeyboardInterrupt):
            run(dataclasses.replace(problem, evaluate=break_off), folder, **options)
        assert plain(run(problem, folder, **options)) == plain(whole)


def test_global_seeds_and_threads_do_not_matter_and_are_left_alone(tmp_path: Path) -> None:
    problem, goals, _ = divergence_problem()
    threads = torch.get_num_threads()
    found = []
    for number in (1, 2):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        torch.set_num_threads(number)
        before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
        try:
            history = run(problem, tmp_path / f"{number}", goals=goals, targets=TARGETS)
            assert torch.get_num_threads() == number
        finally:
            torch.set_num_threads(threads)
        found.append(plain(history))
        assert random.getstate() == before[0]
        assert torch.equal(torch.get_rng_state(), before[1])
        assert np.random.get_state()[1].tolist() == before[2]
    assert found[0] == found[1]


def proposals(search: GoalSearch, history: Sequence[Rollout], count: int = 4) -> list[Proposal]:
    found = search.propose(history, count)
    assert 1 <= len(found) <= count
    return found


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_failed_rollouts_teach_nothing(share: float) -> None:
    problem, goals, _ = divergence_problem()
    history = rolled(problem, list(seeds_of(problem, 6).values()))
    bad = Score(reward=1e9, accuracy=0, accuracy_before=0, divergence=0, failed="broken")
    count = round(share * len(history))
    history = [
        dataclasses.replace(one, score=bad) if place < count else one
        for place, one in enumerate(history)
    ]
    for targets in ((), TARGETS):
        search = GoalSearch(problem, seed=0, rollouts=12, updates=3, goals=goals, targets=targets)
        for proposal in proposals(search, history):
            assert proposal.zeros.min() >= 0
        assert len(search.policy.agent.memory.seen) == len(history) - count


@pytest.mark.parametrize("open_", [1, 2])
def test_one_or_two_layers_to_decide(open_: int, tmp_path: Path) -> None:
    problem, _, evaluator = divergence_problem()
    lower, upper = problem.prior.copy(), problem.prior.copy()
    lower[4 : 4 + open_], upper[4 : 4 + open_] = 0, problem.weights[4 : 4 + open_]
    narrow = dataclasses.replace(problem, lower=lower, upper=upper)
    history = run(narrow, tmp_path)
    held = np.ones(8, bool)
    held[4 : 4 + open_] = False
    for one in history:
        assert one.zeros.sum() == problem.budget
        assert (one.zeros[held] == problem.prior[held]).all()
    if open_ == 1:
        return
    # Two layers: one number to choose, so that a scan knows the best.
    total = int(problem.prior[4:6].sum())
    scan = []
    for first in range(0, int(problem.weights[4]) + 1, 50):
        zeros = problem.prior.copy()
        zeros[4:6] = first, total - first
        if 0 <= zeros[5] <= problem.weights[5]:
            scan.append(evaluator.divergence(zeros))
    best = min(one.score.divergence or 0 for one in history)
    assert best <= min(scan) * 1.02


def test_rollouts_of_several_targets_teach_one_critic() -> None:
    problem, goals, evaluator = divergence_problem(seed=4)
    history = [
        Rollout(kind="agent", zeros=zeros, score=evaluator.score(zeros))
        for target in (0.7, 0.8, 0.95)
        for zeros in seeds_of(goals(target)).values()
    ]  # none at the problem's own target
    search = GoalSearch(problem, seed=0, rollouts=20, updates=5, goals=goals)
    for proposal in proposals(search, history):
        assert proposal.zeros.sum() == problem.budget
        assert evaluator.divergence(proposal.zeros) < evaluator.divergence(problem.prior)


@pytest.mark.parametrize("values", ["no slopes", "nan", "zero", "huge", "no divergence"])
def test_strange_scores_do_not_stop_it(values: str) -> None:
    problem, goals, _ = divergence_problem()
    zeros = list(seeds_of(problem, 4).values())
    changes: dict[str, dict[str, Any]] = {
        "no slopes": {"slopes": None},
        "nan": {"slopes": (float("nan"),) * 8},
        "zero": {"divergence": 0.0, "reward": 1.0, "slopes": (0.0,) * 8},
        "huge": {"divergence": 100.0, "reward": 0.0, "slopes": (-1e9,) * 8},
        "no divergence": {"divergence": None, "slopes": None},
    }
    history = [
        dataclasses.replace(one, score=dataclasses.replace(one.score, **changes[values]))
        for one in rolled(problem, zeros)
    ]
    search = GoalSearch(problem, seed=0, rollouts=20, updates=3, goals=goals)
    for proposal in proposals(search, history):
        assert proposal.zeros.sum() == problem.budget


def test_an_accuracy_is_learned_from_as_a_reward() -> None:
    problem, _, _ = divergence_problem()
    history = rolled(problem, list(seeds_of(problem, 4).values()))
    search = GoalSearch(
        dataclasses.replace(problem, by_divergence=False), seed=0, rollouts=20, updates=3
    )
    proposals(search, history)
    for seen, one in zip(search.policy.agent.memory.seen, history, strict=True):
        assert seen.value == pytest.approx(-np.log(one.score.reward))
        assert np.isnan(seen.slopes).all()


def test_without_own_divergences_error_curves_serve(tmp_path: Path) -> None:
    problem, _, evaluator = divergence_problem(seed=2)
    blind = dataclasses.replace(problem, own=None, own_densities=None)
    history = run(blind, tmp_path)
    best = min(one.score.divergence or 0 for one in history)
    assert best < evaluator.divergence(problem.prior)


def test_a_restored_search_reads_the_history_from_its_start() -> None:
    problem, goals, _ = divergence_problem()
    history = rolled(problem, list(seeds_of(problem).values()))
    first = GoalSearch(problem, seed=0, rollouts=20, updates=3, goals=goals)
    more = [*history, *rolled(problem, [one.zeros for one in proposals(first, history)], "critic")]
    again = GoalSearch(problem, seed=0, rollouts=20, updates=3, goals=goals)
    again.restore(first.state())
    wanted = [one.zeros.tolist() for one in first.propose(more, 4)]
    assert [one.zeros.tolist() for one in again.propose(more, 4)] == wanted
    assert len(again.policy.agent.memory.seen) == len(more)


@pytest.mark.slow
def test_one_and_two_workers_make_the_same_proposals(tmp_path: Path) -> None:
    evaluator = slope_evaluator(trained("mlp"), score_power=0.75, nb_smpls_slope=100)
    problem = real_problem(evaluator, target=0.9)
    found = []
    for workers in (0, 1, 2):
        with LocalPool(evaluator, workers=workers) as pool:
            here = dataclasses.replace(problem, evaluate=pool.evaluate)
            found.append(plain(run(here, tmp_path / f"{workers}")))
    assert found[0] == found[1] == found[2]
