"""Failures of rollout workers: caused by the candidate or by the machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["LIMIT", "TRIES", "WorkerFailure", "failure_reason", "is_candidate_fault"]

TRIES = 2
"""Number of workers that a candidate may kill before it is recorded as failed."""
LIMIT = 8
"""Number of worker deaths for any reason after which a candidate is not retried."""


@dataclass(frozen=True, kw_only=True)
class WorkerFailure:
    """Death of a worker that was scoring a candidate.

    Attributes:
        node: Ray's node id of its machine.
        error: Ray's error.
    """

    node: str
    error: Exception


def is_candidate_fault(death: WorkerFailure, *, alive: Collection[str]) -> bool:
    """Whether a worker's death counts against the candidate it was scoring.

    It does not count if the machine is lost, out of memory or unreachable. Ray detects a lost
    machine only seconds after the connection broke; until then it reports the actor as
    unavailable. The death of a process on a machine that is still alive counts.

    Args:
        death: The worker's death.
        alive: Node ids that Ray reports as alive.
    """
    from ray import exceptions as ray

    others = (
        *(ray.ActorUnavailableError, ray.ActorUnschedulableError, ray.NodeDiedError),
        *(ray.OutOfMemoryError, ray.ObjectLostError, ray.LocalRayletDiedError),
    )
    preempted = isinstance(death.error, ray.RayActorError) and death.error.preempted
    return death.node in alive and not preempted and not isinstance(death.error, others)


def failure_reason(deaths: Sequence[WorkerFailure], *, alive: Collection[str]) -> str | None:
    """Reason to record a candidate as failed; None if it should be retried.

    All deaths are judged by the current state: a worker may die before its machine is lost.

    Args:
        deaths: Deaths of the workers that were scoring it.
        alive: Node ids that Ray reports as alive.
    """
    own = sum(is_candidate_fault(death, alive=alive) for death in deaths)
    if own >= TRIES:
        return f"the worker process died {own} times"
    if len(deaths) >= LIMIT:
        return f"{len(deaths)} workers were lost while scoring it"
    return None
