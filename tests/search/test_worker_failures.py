"""What is held against a candidate whose worker died; every way in which Ray says so."""

from __future__ import annotations

import pytest
from ray import exceptions
from ray.core.generated.common_pb2 import ActorDiedErrorContext, NodeDeathInfo

from ws_learner.search.rollout.worker_failures import (
    LIMIT,
    TRIES,
    WorkerFailure,
    failure_reason,
    is_candidate_fault,
)

HERE, GONE = "a machine that goes on", "a machine that was taken away"
ACTOR = bytes(16)


def died(**context: object) -> exceptions.ActorDiedError:
    return exceptions.ActorDiedError(ActorDiedErrorContext(actor_id=ACTOR, **context))


PREEMPTED = NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED)
CRASH = died(error_message="its worker process has died. Worker exit type: SYSTEM_ERROR")
BY_THE_CANDIDATE = [CRASH, exceptions.WorkerCrashedError()]
BY_THE_MACHINE = [
    exceptions.ActorUnavailableError("RPC error: Socket closed", ACTOR),
    exceptions.ActorUnschedulableError("its node is dead"),
    exceptions.NodeDiedError("node died"),
    exceptions.OutOfMemoryError("killed by the memory monitor"),
    died(error_message="its node has died", node_death_info=PREEMPTED),
]


def named(error: Exception) -> str:
    preempted = isinstance(error, exceptions.RayActorError) and error.preempted
    return "preempted" if preempted else type(error).__name__


@pytest.mark.parametrize("error", BY_THE_CANDIDATE, ids=named)
def test_a_process_that_ends_on_a_machine_that_goes_on_counts(error: Exception) -> None:
    assert is_candidate_fault(WorkerFailure(node=HERE, error=error), alive=[HERE])


@pytest.mark.parametrize("error", BY_THE_MACHINE, ids=named)
def test_what_the_machine_did_does_not_count(error: Exception) -> None:
    assert not is_candidate_fault(WorkerFailure(node=HERE, error=error), alive=[HERE])


@pytest.mark.parametrize("error", BY_THE_CANDIDATE + BY_THE_MACHINE, ids=named)
def test_on_a_machine_that_is_gone_nothing_counts(error: Exception) -> None:
    assert not is_candidate_fault(WorkerFailure(node=GONE, error=error), alive=[HERE])


def test_a_candidate_that_kills_every_worker_has_a_fixed_number_of_tries() -> None:
    deaths = [WorkerFailure(node=HERE, error=CRASH)] * TRIES
    assert failure_reason(deaths[:-1], alive=[HERE]) is None
    assert f"died {TRIES} times" in str(failure_reason(deaths, alive=[HERE]))


def test_a_death_is_judged_again_when_more_is_known() -> None:
    """The worker ended before its machine did: at first it looks like the candidate's fault."""
    first = WorkerFailure(node=GONE, error=CRASH)
    assert is_candidate_fault(first, alive=[HERE, GONE])
    assert failure_reason([first, WorkerFailure(node=HERE, error=CRASH)], alive=[HERE]) is None


@pytest.mark.parametrize("error", BY_THE_MACHINE, ids=named)
def test_nothing_is_tried_for_ever(error: Exception) -> None:
    deaths = [WorkerFailure(node=GONE, error=error)] * LIMIT
    assert failure_reason(deaths[:-1], alive=[HERE]) is None
    assert f"{LIMIT} workers were lost" in str(failure_reason(deaths, alive=[HERE]))
