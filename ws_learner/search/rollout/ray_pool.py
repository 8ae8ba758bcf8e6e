"""Ray rollout pool: scores candidates in Ray actors and replaces dead workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any

import cloudpickle
import numpy as np

from envs import IntArray, Score
from ws_learner.config import ClusterConfig
from ws_learner.core import UserError, importable, warn
from ws_learner.search.rollout.pool_protocol import Evaluator
from ws_learner.search.rollout.scoring import failed_score
from ws_learner.search.rollout.worker_failures import (
    WorkerFailure,
    failure_reason,
    is_candidate_fault,
)

__all__ = ["RayPool"]

IN_FLIGHT = 2
"""Requests per worker: one running and one queued, so that it does not wait for the driver."""
PATIENCE = 300.0
"""Seconds without a worker after which the pool raises an error."""


@dataclass(kw_only=True, eq=False)
class _Worker:
    """An actor, its start-up reply, and its requests (reference -> candidate)."""

    actor: Any
    starting: Any
    pid: int | None = None
    node: str = ""
    tasks: dict[Any, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Round:
    """Candidates of one `evaluate` call and their status."""

    candidates: Sequence[IntArray]
    waiting: deque[int]
    deaths: dict[int, list[WorkerFailure]] = field(default_factory=dict)
    scores: dict[int, Score] = field(default_factory=dict)


class RayPool:
    """Context manager that scores candidates in Ray actors.

    Scores equal those of the local pool. The evaluator is sent to each machine once. A worker that
    dies is replaced, on another machine if necessary, and its candidate is retried. A candidate
    that kills two workers is recorded as failed; workers on lost machines do not count, see
    `worker_failures`.

    Args:
        evaluator: Evaluator of candidates.
        config: Number of workers and their resources. Ray must be connected before the pool
            is entered, see `ray_session`.

    Example:
        >>> with ray_session(config), RayPool(evaluator, config) as pool:  # doctest: +SKIP
        ...     scores = pool.evaluate(candidates)
    """

    def __init__(self, evaluator: Evaluator, config: ClusterConfig) -> None:
        self._evaluator, self._config = evaluator, config
        self._workers: list[_Worker] = []
        self._pickled: Any = None
        self._bad_starts = 0

    def __enter__(self) -> RayPool:
        import ray

        with importable((self._evaluator.dense, self._evaluator.loss, self._evaluator.metric)):
            pickled = cloudpickle.dumps(self._evaluator)
        self._pickled = ray.put(np.frombuffer(pickled, dtype=np.uint8))
        self._workers = [self._start() for _ in range(self._config.workers)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            _stop(worker)
        self._workers, self._pickled = [], None

    @property
    def pids(self) -> list[int]:
        """Process ids of the running workers."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def evaluate(self, candidates: Sequence[IntArray]) -> list[Score]:
        """Score candidates, each an array (L,) of zero counts; results in the order given.

        Raises:
            ValueError: A candidate does not match the layer table.
            RuntimeError: The pool is closed, was never entered, or no worker starts.
            UserError: No worker became available in time.
        """
        candidates = [self._evaluator.checked(np.asarray(zeros)) for zeros in candidates]
        if not self._workers:
            raise RuntimeError("the pool is closed; use it inside its `with` block")
        count = len(candidates)
        work = _Round(candidates=candidates, waiting=deque(range(count)))
        while len(work.scores) < count:
            self._dispatch(work)
            for worker in self._wait():
                self._collect(worker, work)
        return [work.scores[index] for index in range(count)]

    def _dispatch(self, work: _Round) -> None:
        """Send a request to each idle worker, then a second one to each while any are left."""
        ready = [worker for worker in self._workers if worker.pid is not None]
        for depth in range(IN_FLIGHT):
            for worker in ready:
                enough = len(work.waiting) >= (len(ready) if depth else 1)
                if len(worker.tasks) == depth and enough:
                    task = work.waiting.popleft()
                    worker.tasks[worker.actor.score.remote(work.candidates[task])] = task

    def _wait(self) -> list[_Worker]:
        """Wait; return the workers with a reply or an error."""
        import ray

        owners = {ref: worker for worker in self._workers for ref in worker.tasks}
        owners |= {worker.starting: worker for worker in self._workers if worker.pid is None}
        heard, _ = ray.wait(list(owners), timeout=PATIENCE)
        if heard:  # collect further finished replies
            heard, _ = ray.wait(list(owners), num_returns=len(owners), timeout=0)
        if not heard and not any(worker.tasks for worker in self._workers):
            raise UserError(
                f"`ClusterConfig.workers`={self._config.workers}: no rollout worker could be "
                f"started within {PATIENCE:.0f} s; "
                "others may be using the cluster: wait, or ask for fewer"
            )
        return list({id(owners[ref]): owners[ref] for ref in heard}.values())

    def _collect(self, worker: _Worker, work: _Round) -> None:
        import ray

        tasks = [*worker.tasks]
        heard, _ = ray.wait(tasks, num_returns=len(tasks), timeout=0) if tasks else ([], [])
        try:
            if worker.pid is None:
                worker.pid, worker.node = ray.get(worker.starting)
                self._bad_starts = 0
            for ref in heard:
                work.scores[worker.tasks[ref]] = ray.get(ref)
                del worker.tasks[ref]
        except ray.exceptions.RayError as error:
            self._replace_dead(worker, work, error)

    def _replace_dead(self, worker: _Worker, work: _Round, error: Exception) -> None:
        """Replace a dead worker; queue its candidates again or record one as failed."""
        import ray

        lost = []
        for ref, task in worker.tasks.items():
            try:
                work.scores[task] = ray.get(ref, timeout=0)
            except (ray.exceptions.RayError, TimeoutError):
                lost.append(task)
        _stop(worker)
        self._count_start(worker, error)
        self._workers[self._workers.index(worker)] = self._start()
        work.waiting.extendleft(reversed(lost[1:]))  # these had not started
        for task in lost[:1]:
            self._retry_or_fail(worker, task, work, error)

    def _retry_or_fail(self, worker: _Worker, task: int, work: _Round, error: Exception) -> None:
        """Queue the candidate of a dead worker again, or record it as failed."""
        import ray

        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        alive = {node["NodeID"] for node in nodes if node["Alive"]}
        death = WorkerFailure(node=worker.node, error=error)
        work.deaths.setdefault(task, []).append(death)
        reason = failure_reason(work.deaths[task], alive=alive)
        happened = "died" if is_candidate_fault(death, alive=alive) else "was lost"
        warn(
            f"a rollout worker {happened} (process {worker.pid}) and was replaced; its candidate "
            + ("is retried" if reason is None else "is recorded as failed")
        )
        if reason is None:
            work.waiting.appendleft(task)
        else:
            work.scores[task] = failed_score(reason)

    def _count_start(self, worker: _Worker, error: Exception) -> None:
        """Raise an error if workers repeatedly die before they have started."""
        self._bad_starts += worker.pid is None
        if self._bad_starts > 3 * self._config.workers:
            raise RuntimeError(f"rollout workers cannot be started: {error}") from error

    def _start(self) -> _Worker:
        usual = {"num_cpus": 1, "num_gpus": self._config.gpus_per_worker, "max_restarts": 0}
        actor: Any = _remote_class().options(**usual).remote(self._pickled)
        return _Worker(actor=actor, starting=actor.place.remote())


@cache
def _remote_class() -> Any:
    """The actor's class on Ray, one for all pools: Ray keeps each that it gets until the end."""
    import ray

    from ws_learner.search.rollout.ray_actor import RolloutActor

    return ray.remote(RolloutActor)


def _stop(worker: _Worker) -> None:
    import ray

    with suppress(Exception):  # the actor or Ray has already ended
        ray.kill(worker.actor)
