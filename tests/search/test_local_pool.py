"""Rollouts on 0, 1 and 2 workers: same answers, dead workers replaced, none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from envs.problem import IntArray, Score
from tests.support.processes import alive, gone
from tests.support.rollout_parts import counts, tiny_evaluator
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.local_pool import LocalPool


class Deadly(nn.Module):
    """The head of a network that takes its process along when it is thin."""

    def __init__(self, head: nn.Module, parent: int) -> None:
        super().__init__()
        self.head, self.parent = head, parent

    def forward(self, x: Tensor) -> Tensor:
        thin = int((self.head.weight == 0).sum()) == THIN
        if thin and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        out: Tensor = self.head(x)
        return out


THIN = 163


@pytest.fixture(scope="module")
def evaluator() -> RolloutEvaluator:
    """One candidate, with `THIN` zeros in the head, kills the worker that scores it."""
    evaluator = tiny_evaluator(score_power=1.0)
    evaluator.dense[11] = Deadly(evaluator.dense[11], os.getpid())
    head = replace(evaluator.layers[-1], name="11.head.weight")
    evaluator.layers = (*evaluator.layers[:-1], head)
    return evaluator


@pytest.fixture(scope="module")
def candidates(evaluator: RolloutEvaluator) -> list[IntArray]:
    return [counts(evaluator.layers, ratio) for ratio in (0.9, 0.1, 0.5, 1.0, 0.7)]


@pytest.fixture(scope="module")
def alone(evaluator: RolloutEvaluator, candidates: list[IntArray]) -> list[Score]:
    return [evaluator.score(zeros) for zeros in candidates]


@pytest.fixture(scope="module")
def pool(evaluator: RolloutEvaluator) -> Iterator[LocalPool]:
    with LocalPool(evaluator, 2) as pool:
        yield pool
        pids = pool.pids
    assert len(pids) == 2
    assert gone(pids)


def test_without_workers_scores_are_the_evaluators(
    evaluator: RolloutEvaluator, candidates: list[IntArray], alone: list[Score]
) -> None:
    threads = torch.get_num_threads()
    with LocalPool(evaluator, 0) as none:
        assert none.evaluate(candidates) == alone
        assert none.pids == []
    assert torch.get_num_threads() == threads


@pytest.mark.long
def test_two_workers_give_the_same_scores_in_the_order_asked_for(
    pool: LocalPool, candidates: list[IntArray], alone: list[Score]
) -> None:
    pids = pool.pids
    assert pool.evaluate(candidates) == alone
    assert pool.evaluate(candidates[::-1]) == alone[::-1]
    assert pool.evaluate([]) == []
    assert pool.pids == pids


@pytest.mark.long
def test_a_killed_worker_is_replaced_and_no_score_is_lost(
    pool: LocalPool,
    candidates: list[IntArray],
    alone: list[Score],
    capfd: pytest.CaptureFixture[str],
) -> None:
    first, second = pool.pids
    os.kill(first, signal.SIGKILL)
    assert pool.evaluate(candidates) == alone
    assert "died (exit code -9)" in capfd.readouterr().err
    assert pool.pids[0] != first
    assert pool.pids[1] == second
    assert gone([first])


@pytest.mark.long
def test_a_candidate_that_kills_its_worker_twice_is_recorded_as_failed(
    pool: LocalPool,
    candidates: list[IntArray],
    alone: list[Score],
    capfd: pytest.CaptureFixture[str],
) -> None:
    deadly = candidates[0].copy()
    deadly[-1] = THIN
    scores = pool.evaluate([candidates[0], deadly, candidates[1]])
    assert [scores[0], scores[2]] == alone[:2]
    assert "twice" in scores[1].failed
    assert scores[1].reward == 0
    said = capfd.readouterr().err
    assert "retried" in said
    assert "recorded as failed" in said


def test_a_candidate_that_does_not_fit_is_refused_before_it_is_sent(
    evaluator: RolloutEvaluator,
) -> None:
    wrong: IntArray = np.array([1], dtype=np.int64)
    with pytest.raises(ValueError, match="one per layer"):
        LocalPool(evaluator, 1).evaluate([wrong])


def test_a_closed_pool_and_a_negative_number_of_workers_are_errors(
    evaluator: RolloutEvaluator,
) -> None:
    with pytest.raises(ValueError, match="workers -1"):
        LocalPool(evaluator, -1)
    with pytest.raises(RuntimeError, match="closed"):
        LocalPool(evaluator, 1).evaluate([counts(evaluator.layers, 0.5)])


@pytest.mark.long
def test_a_script_without_main_guard_and_with_its_own_network_ends_clean(tmp_path: Path) -> None:
    """Everything the network needs lives in the script; then the script is killed."""
    script = tmp_path / "mine.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import torch
            from torch import nn
            from tests.support.rollout_parts import accuracy, small_config, tiny_data, counts
            from ws_learner.pruning.layers.table import layer_table
            from ws_learner.search.rollout.evaluator import RolloutEvaluator
            from ws_learner.search.rollout.local_pool import LocalPool

            class Mine(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.fc = nn.Linear(192, 4)

                def forward(self, x):
                    return self.fc(x.flatten(1))

            torch.manual_seed(0)
            model = Mine()
            layers = layer_table(model, torch.zeros(2, 3, 8, 8))
            evaluator = RolloutEvaluator(
                model, tiny_data(), layers=layers,
                loss=lambda outputs, targets: nn.functional.cross_entropy(outputs, targets),
                metric=lambda outputs, targets: accuracy(outputs, targets),
                config=small_config(), seed=0, cache_dir=None, device="cpu")
            zeros = counts(layers, 0.5)
            with LocalPool(evaluator, 1) as pool:
                assert pool.evaluate([zeros]) == [evaluator.score(zeros)]
                print(*pool.pids, flush=True)
                sys.stdin.read()
            """
        )
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 1
        assert alive(pids[0])
        process.kill()
        assert gone(pids)
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()
