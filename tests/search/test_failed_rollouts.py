"""Failed rollouts: never chosen, counted, and the end of a search that has nothing else."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.proposer import SEED, seed_trials
from agents.random_search import RandomSearch
from envs.problem import AllocationProblem, IntArray, Score
from tests.support.rollout_parts import (
    accuracy,
    counts,
    small_config,
    table_of,
    tiny_data,
    tiny_network,
)
from tests.support.searchers import MAKERS, PER_ROUND, RLOUTS, plain, seeds_of, small_problem
from ws_learner import Recipe, WeightSparseConfig, WeightSparseLearner
from ws_learner.core.errors import UserError
from ws_learner.report import read_rollouts
from ws_learner.report.headlines import result_rows
from ws_learner.search.history import Rollout, best, distinct_best, from_plain, to_plain
from ws_learner.search.loop import Search
from ws_learner.search.rollout.evaluator import RolloutEvaluator

GOOD = Score(reward=0.5, accuracy=0.5, accuracy_before=0.5, divergence=1.0)
BAD = dataclasses.replace(GOOD, reward=9.0, failed="ZeroDivisionError: too thin")


def search(
    problem: AllocationProblem, folder: Path, name: str = "random", **changes: object
) -> Search:
    settings: dict[str, object] = {
        "problem": problem,
        "proposer": MAKERS[name](problem, seed=0),
        "seeds": seeds_of(problem),
        "rollouts": RLOUTS,
        "per_round": PER_ROUND,
        "state": folder / "search.pt",
        "table": folder / "rollouts.csv",
    }
    return Search(**settings | changes)  # type: ignore[arg-type]


def failing(
    problem: AllocationProblem, fails: Callable[[int, IntArray], bool]
) -> AllocationProblem:
    """The problem, whose candidate of this number and these zeros may fail."""
    scored: list[IntArray] = []

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        scores = problem.evaluate(candidates)
        first = len(scored)
        scored.extend(candidates)
        return [
            BAD if fails(first + place, zeros) else score
            for place, (zeros, score) in enumerate(zip(candidates, scores, strict=True))
        ]

    return dataclasses.replace(problem, evaluate=evaluate)


@pytest.mark.parametrize("name", ["random", "ddpg"])
def test_a_search_stops_when_the_first_round_fails_and_starts_anew_when_mended(
    name: str, tmp_path: Path
) -> None:
    problem, evaluator = small_problem()
    whole = plain(search(problem, tmp_path / "whole", name).run())
    before = evaluator.evaluations
    broken = search(failing(problem, lambda *_: True), tmp_path / "broken", name)
    told = r"all 3 rollouts failed on the search split, at an overall ratio of 0\.9000: "
    for _ in range(2):
        with pytest.raises(UserError, match=told + "ZeroDivisionError: too thin. .*`metric`"):
            dataclasses.replace(broken).run()
    assert evaluator.evaluations - before == 6  # the profiles in closed form, twice
    assert (
        read_rollouts(tmp_path / "broken" / "rollouts.csv")["failed"].tolist() == [BAD.failed] * 3
    )
    assert plain(search(problem, tmp_path / "broken", name).run()) == whole


def test_three_failures_are_enough_and_one_profile_alone_is_not(tmp_path: Path) -> None:
    problem, _ = small_problem()
    alone = {"prior": problem.prior}
    with pytest.raises(UserError, match="all 5 rollouts failed"):  # one, and a round of four
        search(failing(problem, lambda *_: True), tmp_path / "a", seeds=alone).run()
    with pytest.raises(UserError, match="all 2 rollouts failed"):
        search(failing(problem, lambda *_: True), tmp_path / "b", rollouts=2).run()
    saved = search(failing(problem, lambda number, _: number < 1), tmp_path / "c", seeds=alone)
    assert len(saved.run()) == RLOUTS


@pytest.mark.parametrize("name", ["bayesian", "ddpg"])
def test_interrupted_with_failures_and_resumed_is_undisturbed(name: str, tmp_path: Path) -> None:
    problem, _ = small_problem()

    def fails(_: int, zeros: IntArray) -> bool:
        return int(zeros[3]) % 2 == 0 or zeros.tolist() == problem.prior.tolist()

    whole = search(failing(problem, fails), tmp_path / "whole", name).run()
    assert 0 < sum(bool(r.score.failed) for r in whole) < RLOUTS
    part = search(failing(problem, fails), tmp_path / "parts", name)
    rounds = 0

    def stop(candidates: Sequence[IntArray]) -> list[Score]:
        nonlocal rounds
        rounds += 1
        if rounds > 2:
            raise KeyboardInterrupt
        return failing(problem, fails).evaluate(candidates)

    part.problem = dataclasses.replace(problem, evaluate=stop)
    with pytest.raises(KeyboardInterrupt):
        part.run()
    again = search(failing(problem, fails), tmp_path / "parts", name).run()
    assert plain(again) == plain(whole)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *product(["reward", "accuracy", "accuracy_before"], [math.nan, math.inf]),
        ("divergence", math.inf),  # NaN: not measured, where the outputs' meaning is not known
    ],
)
def test_a_score_that_is_no_number_is_a_failure(field: str, value: float) -> None:
    odd = dataclasses.replace(GOOD, **{field: value})
    rollouts = [
        Rollout(kind="model", zeros=np.array([place]), score=score)
        for place, score in enumerate([odd, GOOD, BAD])
    ]
    for some in (rollouts, from_plain(json.loads(json.dumps(to_plain(rollouts))))):
        assert "FloatingPointError" in some[0].score.failed
        assert best(some) is some[1]
        assert distinct_best(some, 3) == [some[1]]
    with pytest.raises(ValueError, match="none of 2"):
        best([rollouts[0], rollouts[2]])


def test_the_evaluator_counts_a_metric_that_is_no_number_as_a_failure() -> None:
    dense: list[Tensor] = []

    def only_at_first(outputs: Tensor, targets: Tensor) -> Tensor:
        if not any(torch.equal(outputs, known) for known in dense):
            if len(dense) == batches:
                return accuracy(outputs, targets) * torch.nan
            dense.append(outputs)
        return accuracy(outputs, targets)

    batches = small_config().nb_iters_feval
    torch.manual_seed(0)
    model = tiny_network().eval()
    layers = table_of(model)
    made = RolloutEvaluator(
        model,
        tiny_data(),
        layers=layers,
        loss=functional.cross_entropy,
        metric=only_at_first,
        config=small_config(),
        seed=0,
        cache_dir=None,
        device="cpu",
    )
    score = made.score(counts(layers, 0.5))
    assert "is NaN or infinite" in score.failed
    assert (score.reward, score.accuracy) == (0.0, 0.0)


def test_the_centre_of_a_random_search_is_no_failed_profile() -> None:
    problem, _ = small_problem()
    seeds = list(seeds_of(problem).values())
    failed = Rollout(kind=SEED, zeros=seeds[0], score=BAD)
    scored = Rollout(kind="random", zeros=seeds[2], score=GOOD)
    assert seed_trials([failed, scored]) == [failed, scored]
    after = RandomSearch(problem, seed=0, spread=0.0).propose([failed, scored], 1)
    assert np.abs(after[0].zeros - seeds[2]).max() <= 2


# ---- through the learner


class Brittle(nn.Sequential):
    """Fails once a tenth of its weights are zero."""

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.cat([w.flatten() for w in self.parameters() if w.dim() > 1])
        if (weights == 0).float().mean() > 0.1:
            raise ZeroDivisionError("too many zeros for this network")
        out: Tensor = super().forward(x)
        return out


def broken_metric(outputs: Tensor, targets: Tensor) -> Tensor:
    raise ZeroDivisionError("no examples of this class")


def learner(  # type: ignore[no-untyped-def]
    folder: Path,
    metric: Callable[[Tensor, Tensor], Tensor],
    model: nn.Module | None = None,
    **more: object,
):
    torch.manual_seed(0)
    return WeightSparseLearner(
        (model or tiny_network()).eval(),
        tiny_data(),
        loss=functional.cross_entropy,
        metric=metric,
        recipe=Recipe(nb_epochs=1, batch_size=32),
        config=WeightSparseConfig(
            ws_prune_ratio=0.6,
            ws_prune_ratio_prtl="random",
            ws_nb_rlouts=8,
            ws_nb_rlouts_min=6,
            ws_nb_smpls_rg=32,
            ws_nb_rescore=3,
        ),
        run_dir=folder,
        **{"workers": 0} | more,
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))


@pytest.mark.long
def test_all_failed_is_one_error_on_any_number_of_workers(tmp_path: Path) -> None:
    messages = []
    for workers in (0, 1):
        brittle = Brittle(*tiny_network())
        with pytest.raises(UserError, match="ZeroDivisionError: too many zeros") as caught:
            learner(tmp_path / f"{workers}", accuracy, brittle, workers=workers).fit()
        messages.append(str(caught.value))
        assert not (tmp_path / f"{workers}" / "model.safetensors").exists()
    assert messages[0] == messages[1]
    assert "at an overall ratio of 0.60" in messages[0]


def test_a_metric_that_fails_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`metric` broken metric: .*ZeroDivisionError: no"):
        learner(tmp_path / "run", broken_metric).fit()
    assert not (tmp_path / "run").exists()


def test_profiles_that_fail_on_the_select_split_are_not_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def fails_at_first(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        if len(targets) == 60:  # the select split; the dense network, then two tries a profile
            calls += 1
            if 2 <= calls <= 3:
                raise ZeroDivisionError("odd batch")
        return accuracy(outputs, targets)

    allocation = learner(tmp_path / "run", fails_at_first).allocate()
    table = read_rollouts(tmp_path / "run" / "rollouts.csv")
    again = table[table["kind"] == "select"]
    assert (again["failed"] != "").tolist() == [True, False, False]
    chosen = again.filter(like="zeros/") == allocation.zeros
    assert chosen.all(axis=1).tolist() in ([False, True, False], [False, False, True])
    assert allocation.failed == 1
    told = capsys.readouterr().err
    assert "1 of 3 rollouts failed on the select split and cannot be chosen: " in told
    assert "ZeroDivisionError: odd batch" in told


def test_nothing_is_chosen_if_every_re_scoring_fails(tmp_path: Path) -> None:
    calls = 0

    def no_select(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        if len(targets) == 60:
            calls += 1
            if calls > 1:  # after the dense network
                raise ZeroDivisionError("odd batch")
        return accuracy(outputs, targets)

    with pytest.raises(UserError, match="all 3 rollouts failed on the select split"):
        learner(tmp_path / "run", no_select).allocate()
    repaired = learner(tmp_path / "run", accuracy, claims=False)  # another metric by its code
    assert len(repaired.allocate().zeros) == 4  # searched already


def test_a_run_that_chose_among_failures_is_refused(tmp_path: Path) -> None:
    """As versions before this rule left it behind."""
    made = learner(tmp_path / "run", accuracy)
    made.allocate()
    path = tmp_path / "run" / "rollouts.csv"
    table = read_rollouts(path)
    table["failed"] = "RuntimeError: shapes"
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match=r"`run_dir` .*all 11 rollouts .*RuntimeError: shapes"):
        learner(tmp_path / "run", accuracy).fit()


def test_the_summary_says_how_many_failed() -> None:
    rows = dict(result_rows({"rollouts": 1200, "failed_rollouts": 7}))
    assert rows["rollouts"] == "1,200, 7 failed"
    assert dict(result_rows({"rollouts": 12, "failed_rollouts": 0}))["rollouts"] == "12"
