"""The service in front of a Ray cluster: its jobs are listed, stopped, started and resumed."""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from experiments.cli.serve.form_words import own_words
from experiments.cli.serve.starter import ProcessStarter
from ws_learner.core import UserError, folder_name, say
from ws_learner.report import RunState
from ws_learner.service import Checked, NewRun, Plan, RemoteRun

__all__ = ["ClusterJobs", "ClusterStarter"]

_SECONDS_OF_A_LIST = 2.0
_STATES: dict[str, RunState] = {
    **{"PENDING": "running", "RUNNING": "running", "SUCCEEDED": "finished"},
    **{"STOPPED": "stopped", "FAILED": "failed"},
}


class Jobs(Protocol):
    """The jobs of a cluster, see `experiments.cli.ray.jobs`."""

    def all(self) -> list[tuple[str, str, str, float]]: ...

    def log(self, run: str) -> str: ...

    def stop(self, run: str) -> None: ...

    def submit(self, folder: Path, words: Sequence[str], *, name: str, gpus: int) -> str: ...


class ClusterJobs:
    """The jobs of a cluster as runs.

    Args:
        jobs: The client.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs, self._lock = jobs, threading.Lock()
        self._listed: tuple[float, list[RemoteRun]] = (-_SECONDS_OF_A_LIST, [])
        self._silent = False

    def all(self) -> list[RemoteRun]:
        """Every job of ours; at most two seconds old while the cluster answers."""
        with self._lock:
            when, runs = self._listed
            if time.monotonic() - when >= _SECONDS_OF_A_LIST:
                runs = self._list(runs)
                self._listed = (time.monotonic(), runs)
            return runs

    def _list(self, before: list[RemoteRun]) -> list[RemoteRun]:
        try:
            found = self._jobs.all()
        except Exception as error:  # Ray's client raises errors of many kinds
            if not self._silent:
                say(f"the cluster does not answer ({type(error).__name__}); it is asked again")
            self._silent = True
            return before
        self._silent = False
        return [
            RemoteRun(
                job=job,
                id=_folder_of(command) or job,
                state=_STATES.get(status, "unknown"),
                command=command,
                started=started,
            )
            for job, status, command, started in found
        ]

    def log(self, job: str, lines: int) -> list[str]:
        """The last lines; none if the cluster does not answer."""
        try:
            return self._jobs.log(job).splitlines()[-lines:]
        except Exception:  # as above
            return []

    def stop(self, job: str) -> None:
        """Stop a job and wait for its end."""
        try:
            self._jobs.stop(job)
        except Exception as error:  # as above
            raise UserError(f"run {job}: could not be stopped ({type(error).__name__})") from error
        self.forget()

    def forget(self) -> None:
        """Ask anew the next time, as after a start."""
        self._listed = (self._listed[0] - _SECONDS_OF_A_LIST, self._listed[1])


def _folder_of(command: str) -> str | None:
    """The name of a run's directory, where its command says it."""
    found = re.search(r"--run_dir[= ](\S+)", command)
    name = Path(shlex.split(found[1])[0]).name if found else ""
    return name if name and folder_name(name) == name else None


class ClusterStarter(ProcessStarter):
    """Checks runs on this machine and sends them to the cluster.

    Args:
        runs: Folder of the run directories: the cluster's storage, as it is mounted here.
        experiments: Names or files.
        jobs: The client.
        known: The jobs as runs.
        workers: Of a run that asks for no number.
        gpus: GPUs of each worker.
        extra: Words that every command gets.
        most: Runs at a time.
    """

    def __init__(
        self,
        runs: Path,
        experiments: Sequence[str],
        *,
        jobs: Jobs,
        known: ClusterJobs,
        workers: int,
        gpus: float = 0.0,
        extra: Sequence[str] = (),
        most: int = 2,
    ) -> None:
        super().__init__(runs, experiments, extra=extra, most=most)
        self._client, self._known = jobs, known
        self._workers, self._gpus = workers, gpus

    def plan(self, new: NewRun) -> Plan:
        """The command of a request, for ./run_distributed.sh."""
        plan = super().plan(new.model_copy(update={"workers": None}))
        ray = [f"-n={new.workers or self._workers}", f"--storage={self._runs}"]
        ray += [f"--gpus_per_worker={self._gpus:g}"] if self._gpus else []
        shown = shlex.split(plan.command)[2:]  # without `ws-learner prune`
        command = shlex.join(["./run_distributed.sh", *ray, *shown])
        return Plan(id=plan.id, command=command, words=(*ray, *plan.words))

    def check(self, plan: Plan) -> Checked:
        """Check here what does not depend on the cluster."""
        return super().check(replace(plan, words=own_words(plan.words)))

    def _words_of_run(self, run: str) -> tuple[str, ...]:
        ray = (f"-n={self._workers}", f"--storage={self._runs}")
        return (*ray, *super()._words_of_run(run))

    def _start(self, run: str, words: Sequence[str]) -> None:
        from experiments.cli.ray.working_dir import staged

        with self._starting:
            self._refuse(run, [one.id for one in self._known.all() if one.state == "running"])
            experiment = own_words(words)[0]
            with staged(words) as (folder, rewritten):
                self._client.submit(folder, rewritten, name=experiment, gpus=int(self._gpus > 0))
            self._jobs.create(run, words)
            self._known.forget()
