"""Whose fault it was that a rollout worker died: its candidate's, or its machine's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["LIMIT", "TRIES", "WorkerFailure", "failure_reason", "is_candidate_fault"]

TRIES = 2
"""Workers that a candidate may kill."""
LIMIT = 8
"""Workers that may die under a candidate, whoever killed them: nothing is tried for ever."""


@dataclass(frozen=True, kw_only=True)
class WorkerFailure:
    """The end of a worker that was scoring a candidate.

    Attributes:
        node: Ray's name of the machine it ran on.
        error: What Ray says about it.
    """

    node: str
    error: Exception


def is_candidate_fault(death: WorkerFailure, *, alive: Collection[str]) -> bool:
    """Whether a worker's death is held against the candidate it was scoring.

    Not if its machine is gone, or short of memory, or out of reach. That a machine is gone Ray
    notices seconds after the connection broke; all it knows until then is that the actor is
    unavailable. A process that ends on a machine that goes on counts.

    Args:
        death: The death.
        alive: Machines that Ray takes for alive.
    """
    from ray import exceptions as ray

    others = (
        *(ray.ActorUnavailableError, ray.ActorUnschedulableError, ray.NodeDiedError),
        *(ray.OutOfMemoryError, ray.ObjectLostError, ray.LocalRayletDiedError),
    )
    preempted = isinstance(death.error, ray.RayActorError) and death.error.preempted
    return death.node in alive and not preempted and not isinstance(death.error, others)


def failure_reason(deaths: Sequence[WorkerFailure], *, alive: Collection[str]) -> str | None:
    """Reason to try a candidate no more; None if it should be tried again.

    All its deaths are judged by what is known now: a worker may end before its machine does.

    Args:
        deaths: Of the workers that were scoring it.
        alive: Machines that Ray takes for alive.
    """
    own = sum(is_candidate_fault(death, alive=alive) for death in deaths)
    if own >= TRIES:
        return f"the worker process died {own} times"
    if len(deaths) >= LIMIT:
        return f"{len(deaths)} workers were lost under it"
    return None
