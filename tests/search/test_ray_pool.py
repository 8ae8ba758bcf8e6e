"""Rollouts in Ray actors: the local pool's scores, dead workers replaced, none left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import ray
import torch
from ray.experimental.internal_kv import _internal_kv_list
from torch import Tensor, nn

from envs.problem import IntArray, Score
from tests.support.processes import gone
from tests.support.rollout_parts import counts, tiny_evaluator
from ws_learner.config.cluster import ClusterConfig
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.local_pool import LocalPool
from ws_learner.search.rollout.ray_pool import RayPool

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

DEADLY, RAISING = 163, 161
"""Zeros in the head that make it kill its process, or raise."""


class Trap(nn.Module):
    """The head of a network."""

    def __init__(self, head: nn.Module, parent: int) -> None:
        super().__init__()
        self.head, self.parent = head, parent

    def forward(self, x: Tensor) -> Tensor:
        zeros = int((self.head.weight == 0).sum())
        if zeros == DEADLY and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        if zeros == RAISING:
            raise ArithmeticError("no head that thin")
        out: Tensor = self.head(x)
        return out


@pytest.fixture(scope="module")
def evaluator() -> RolloutEvaluator:
    evaluator = tiny_evaluator(score_power=1.0)
    evaluator.dense[11] = Trap(evaluator.dense[11], os.getpid())
    head = replace(evaluator.layers[-1], name="11.head.weight")
    evaluator.layers = (*evaluator.layers[:-1], head)
    return evaluator


@pytest.fixture(scope="module")
def candidates(evaluator: RolloutEvaluator) -> list[IntArray]:
    ratios = (0.9, 0.1, 0.5, 1.0, 0.7, 0.3, 0.6, 0.95, 0.2)
    return [counts(evaluator.layers, ratio) for ratio in ratios]


@pytest.fixture(scope="module")
def expected(evaluator: RolloutEvaluator, candidates: list[IntArray]) -> list[Score]:
    with LocalPool(evaluator, 2) as pool:
        return pool.evaluate(candidates)


@pytest.fixture(scope="module")
def pool(evaluator: RolloutEvaluator) -> Iterator[RayPool]:
    with RayPool(evaluator, ClusterConfig(workers=2)) as pool:
        yield pool
        pids = pool.pids
    assert pids
    assert gone(pids)


def with_head(candidate: IntArray, zeros: int) -> IntArray:
    changed = candidate.copy()
    changed[-1] = zeros
    return changed


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_local_scores_in_the_order_asked_for(
    evaluator: RolloutEvaluator,
    candidates: list[IntArray],
    expected: list[Score],
    workers: int,
) -> None:
    threads = torch.get_num_threads()
    with RayPool(evaluator, ClusterConfig(workers=workers)) as pool:
        assert pool.evaluate(candidates) == expected
        assert pool.evaluate(candidates[::-1]) == expected[::-1]
        assert pool.evaluate([]) == []
    assert torch.get_num_threads() == threads
    with pytest.raises(RuntimeError, match="closed"):
        pool.evaluate(candidates)


def test_a_worker_killed_while_it_scores_is_replaced_and_no_score_is_lost(
    pool: RayPool,
    candidates: list[IntArray],
    expected: list[Score],
    capfd: pytest.CaptureFixture[str],
) -> None:
    for _attempt in range(100):  # until both are up, however slowly they start
        assert pool.evaluate(candidates[:4]) == expected[:4]
        if len(pool.pids) == 2:
            break
    before = pool.pids
    assert len(before) == 2
    pool._wait, waited = _killing(pool, before[0])
    assert pool.evaluate(candidates) == expected
    assert waited
    assert gone(before[:1])
    assert before[1] in pool.pids
    said = capfd.readouterr().err
    assert f"(process {before[0]}) and was replaced" in said
    assert "recorded as failed" not in said


def _killing(pool: RayPool, pid: int):  # type: ignore[no-untyped-def]
    """The pool's own wait, which first kills a worker that has been given work."""
    wait, done = pool._wait, []

    def instead():  # type: ignore[no-untyped-def]
        busy = any(worker.pid == pid and worker.tasks for worker in pool._workers)
        if busy and not done:
            done.append(pid)
            os.kill(pid, signal.SIGKILL)
        return wait()

    return instead, done


def test_a_candidate_that_kills_its_worker_twice_is_recorded_as_failed(
    pool: RayPool,
    candidates: list[IntArray],
    expected: list[Score],
    capfd: pytest.CaptureFixture[str],
) -> None:
    deadly = with_head(candidates[0], DEADLY)
    scores = pool.evaluate([candidates[0], deadly, *candidates[1:]])
    assert [scores[0], *scores[2:]] == expected
    assert "the worker process died 2 times" in scores[1].failed
    assert scores[1].reward == 0
    said = capfd.readouterr().err
    assert "retried" in said
    assert "recorded as failed" in said


def test_a_candidate_that_raises_is_recorded_as_failed_with_its_reason(
    pool: RayPool, candidates: list[IntArray], expected: list[Score]
) -> None:
    scores = pool.evaluate([with_head(candidates[0], RAISING), candidates[1]])
    assert scores[0].failed == "ArithmeticError: no head that thin"
    assert scores[1] == expected[1]


def test_a_candidate_that_does_not_fit_is_refused_before_it_is_sent(pool: RayPool) -> None:
    wrong: IntArray = np.array([1], dtype=np.int64)
    with pytest.raises(ValueError, match="one per layer"):
        pool.evaluate([wrong])


def test_no_worker_has_more_than_two_requests(
    pool: RayPool, candidates: list[IntArray], expected: list[Score]
) -> None:
    seen: list[int] = []
    wait = RayPool._wait.__get__(pool)

    def instead():  # type: ignore[no-untyped-def]
        seen.append(max(len(worker.tasks) for worker in pool._workers))
        return wait()

    pool._wait = instead
    assert pool.evaluate(candidates) == expected
    assert max(seen) == 2


def test_the_evaluator_is_in_the_object_store_once(pool: RayPool) -> None:
    assert isinstance(pool._pickled, ray.ObjectRef)
    assert ray.get(pool._pickled).dtype == np.uint8


def test_ray_keeps_one_class_however_many_pools_are_opened(
    pool: RayPool, evaluator: RolloutEvaluator, candidates: list[IntArray]
) -> None:
    pool.evaluate(candidates[:1])

    def kept() -> int:
        return len(_internal_kv_list(b"ActorClass", namespace="fun"))

    before = kept()  # of the pool that is open
    assert before >= 1
    for workers in (1, 2):
        with RayPool(evaluator, ClusterConfig(workers=workers)):
            assert kept() == before


def test_ray_keeps_no_list_of_past_rollouts(
    pool: RayPool, candidates: list[IntArray], expected: list[Score]
) -> None:
    assert pool.evaluate(candidates) == expected
    time.sleep(2)  # Ray reports tasks every second
    assert ray.timeline() == []
