"""Local rollout pool: parallel worker processes with one thread each."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import IO

import cloudpickle
import numpy as np

from envs import IntArray, Score
from ws_learner.core import UserError, importable, warn
from ws_learner.search.rollout.pool_protocol import Evaluator
from ws_learner.search.rollout.scoring import failed_score
from ws_learner.search.rollout.spilled_database import naming_files

__all__ = ["LocalPool"]


@dataclass(kw_only=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    task: int | None = None


class LocalPool:
    """Context manager that scores candidates in local processes.

    Scores do not depend on the number of workers. Each worker is a new interpreter with a copy of
    the evaluator, so the calling script needs no `__main__` guard. A worker that dies is replaced
    and its candidate retried once, then recorded as failed. Workers end with the pool and with
    this process, even if it is killed.

    Args:
        evaluator: Evaluator of candidates.
        workers: Number of processes; 0 scores in this process.

    Example:
        >>> with LocalPool(evaluator, workers=2) as pool:  # doctest: +SKIP
        ...     scores = pool.evaluate(candidates)
    """

    def __init__(self, evaluator: Evaluator, workers: int) -> None:
        if workers < 0:
            raise ValueError(f"workers {workers}: must be 0 or more")
        self._evaluator, self._count = evaluator, workers
        self._workers: list[_Worker] = []
        self._data: IO[bytes] | None = None

    def __enter__(self) -> LocalPool:
        if self._count:
            self._data = self._written()
            self._workers = [self._start() for _ in range(self._count)]
        return self

    def _written(self) -> IO[bytes]:
        """A file without a name that holds the evaluator."""
        parts = (self._evaluator.dense, self._evaluator.loss, self._evaluator.metric)
        try:
            data = tempfile.TemporaryFile(prefix="rollout-")  # noqa: SIM115
            with importable(parts), naming_files():
                cloudpickle.dump(self._evaluator, data)
            data.flush()
        except OSError as error:
            raise UserError(
                f"cannot write to the temporary folder {tempfile.gettempdir()}: "
                f"{error.strerror or error}; free space, or let the environment variable `TMPDIR` "
                "name a folder on another disk, then run the same command again"
            ) from error
        return data

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            _stop(worker)
        self._workers = []
        if self._data:
            self._data.close()
            self._data = None

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers."""
        return [worker.process.pid for worker in self._workers]

    def evaluate(self, candidates: Sequence[IntArray]) -> list[Score]:
        """Score candidates, each an array (L,) of zero counts; results in the order given.

        Raises:
            ValueError: A candidate does not match the layer table.
            RuntimeError: The pool is closed or was never entered.
        """
        candidates = [self._evaluator.checked(np.asarray(zeros)) for zeros in candidates]
        if not self._count:
            return [self._evaluator.score(zeros) for zeros in candidates]
        if not self._workers:
            raise RuntimeError("the pool is closed; use it inside its `with` block")
        scores: dict[int, Score] = {}
        waiting, deaths = deque(range(len(candidates))), [0] * len(candidates)
        while len(scores) < len(candidates):
            for worker in self._workers:
                if worker.task is None and waiting:
                    self._give(worker, waiting, candidates)
            busy = {w.connection: w for w in self._workers if w.task is not None}
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                task, score = worker.task, _receive(worker)
                assert task is not None
                worker.task = None
                if score is None:
                    score = self._replace_dead(worker, task, waiting, deaths)
                if score is not None:
                    scores[task] = score
        return [scores[index] for index in range(len(candidates))]

    def _give(self, worker: _Worker, waiting: deque[int], candidates: Sequence[IntArray]) -> None:
        worker.task = waiting.popleft()
        with suppress(OSError):  # it died while idle; reading from it shows this
            worker.connection.send(candidates[worker.task])

    def _replace_dead(
        self, worker: _Worker, task: int, waiting: deque[int], deaths: list[int]
    ) -> Score | None:
        """Replace a dead worker; queue its candidate again or record it as failed."""
        _stop(worker)
        code = worker.process.returncode
        self._workers[self._workers.index(worker)] = self._start()
        deaths[task] += 1
        again = deaths[task] < 2
        warn(
            f"a rollout worker died (exit code {code}) and was replaced; its candidate is "
            + ("retried" if again else "recorded as failed")
        )
        if again:
            waiting.appendleft(task)
            return None
        return failed_score(f"the worker process died twice, last with exit code {code}")

    def _start(self) -> _Worker:
        assert self._data is not None
        ours, theirs = Pipe()
        one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            handles = (theirs.fileno(), self._data.fileno())
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "ws_learner.search.rollout.worker",
                    *map(str, (*handles, sys.getrecursionlimit())),
                ],
                stdin=subprocess.PIPE,
                pass_fds=handles,
                env=os.environ | one | {"PYTHONPATH": path},
            )
        return _Worker(process=process, connection=ours)


def _receive(worker: _Worker) -> Score | None:
    try:
        score: Score = worker.connection.recv()
    except (EOFError, OSError):
        return None
    return score


def _stop(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.kill()
    worker.process.wait()
    if worker.process.stdin:
        worker.process.stdin.close()
