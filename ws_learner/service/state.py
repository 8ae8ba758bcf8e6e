"""All that the service knows of its runs, and what it does with them."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

from ws_learner.core import RunDir, UserError, check_result, read_json, unsealed
from ws_learner.report import RunRow, list_runs, read_row
from ws_learner.service.elsewhere import Elsewhere, RemoteRun
from ws_learner.service.estimate import Estimate, estimate
from ws_learner.service.jobs import JobFolder, log_tail
from ws_learner.service.live import LOG_LINES, Live, read_live
from ws_learner.service.locks import lock_holder, signal_holder
from ws_learner.service.new_run import NewRun, Starter
from ws_learner.service.run_folder import NotThereError, RunFile, RunFolder

__all__ = ["Service"]

_SECONDS_OF_A_LIST, _SECONDS_OF_A_PAGE = 1.0, 0.5
_REST = 25
"""What was read is kept for so many times as long as the reading took."""
_SECONDS_TO_STOP = 10.0
_SEE = "see docs/security.md"


class Service:
    """The runs in one folder.

    Args:
        folder: Of the run directories.
        starter: Starts new ones; None for a service that only reads and stops.
        elsewhere: Knows the runs of other machines, if there are any.
    """

    def __init__(
        self,
        folder: Path,
        *,
        starter: Starter | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.folder, self.starter, self._elsewhere = RunFolder(folder), starter, elsewhere
        self._jobs = JobFolder(self.folder.path)
        self._listing = threading.Lock()
        self._listed: tuple[float, list[RunRow]] = (0.0, [])
        """Until when the list counts, and the list."""
        self._lives: dict[str, tuple[float, float, Live]] = {}

    def rows(self) -> list[RunRow]:
        """All runs, newest first; a second old, or older where reading them takes long."""
        with self._listing:
            until, rows = self._listed
            begin = time.monotonic()
            if begin >= until:
                rows = self._list()
                end = time.monotonic()
                self._listed = (end + max(_SECONDS_OF_A_LIST, _REST * (end - begin)), rows)
            return rows

    def _list(self) -> list[RunRow]:
        there = list_runs(self.folder.path) if self.folder.path.is_dir() else []
        named = {row.id for row in there}
        jobs = {job.id for job in self._jobs.all()}
        remote = self._remote()
        rows = [self._whole(row) if row.id in jobs | remote.keys() else row for row in there]
        rows += [self._whole(self._empty(name)) for name in (jobs | remote.keys()) - named]
        return sorted(rows, key=lambda row: -row.started)

    def row(self, name: str) -> RunRow:
        """A run.

        Raises:
            NotThereError: There is none.
        """
        path = self.folder.named(name)
        known = self._jobs.job(name) is not None or name in self._remote()
        if path.exists() or not known:
            return self._whole(read_row(self.folder.run(name)))
        return self._whole(self._empty(name))

    def _remote(self) -> dict[str, RemoteRun]:
        """The last job elsewhere of each run."""
        runs = self._elsewhere.all() if self._elsewhere is not None else []
        return {one.id: one for one in sorted(runs, key=lambda one: one.started)}

    def _whole(self, row: RunRow) -> RunRow:
        """A row with what the processes of the run say."""
        return self._with_remote(self._with_job(row))

    def _with_remote(self, row: RunRow) -> RunRow:
        """The row of a run that works on other machines, where no lock can be seen."""
        remote = self._remote().get(row.id)
        if remote is None or row.state == "running":
            return row
        started = row.started or remote.started
        row = dataclasses.replace(row, started=started, changed=max(row.changed, started))
        if remote.state == "running":
            return dataclasses.replace(row, state="running", phase=row.phase or "starting")
        if row.state == "finished" or row.path.exists():
            return row
        return dataclasses.replace(row, state=remote.state, phase="on the cluster")

    def _empty(self, name: str) -> RunRow:
        """A run that was started and has no directory yet."""
        return RunRow(id=name, path=self.folder.path / name, state="stopped")

    def _with_job(self, row: RunRow) -> RunRow:
        """The row of a run that the service has started, whose process says more."""
        job = self._jobs.job(row.id)
        if job is None:
            return row
        state = job.state
        started = row.started or job.started
        changed = max(row.changed, started)
        experiment = row.experiment or job.experiment
        row = dataclasses.replace(row, started=started, changed=changed, experiment=experiment)
        if state == "running":
            phase = row.phase or ("report" if row.state == "finished" else "starting")
            return dataclasses.replace(row, state="running", phase=phase)
        if state == "failed" and row.state != "finished":
            said = [line for line in log_tail(job.log, 20) if line.startswith("error: ")]
            reason = (said[-1] if said else "see its log").removeprefix("error: ")
            return dataclasses.replace(row, state="failed", reason=reason)
        return row

    def state(self, name: str) -> str:
        """The state of a run, `unknown` once it is removed; cheap while it runs."""
        try:
            if self.holder(name) is not None:
                return "running"
            return self.row(name).state
        except NotThereError:
            return "unknown"

    def holder(self, name: str) -> int | None:
        """The process that works on a run; None if there is none of this user."""
        lock = self._held(name)
        return None if lock is None else lock_holder(lock)

    def _held(self, name: str) -> Path | None:
        """The lock of a run that a process holds."""
        job = self._jobs.job(name)
        locks = [job.lock] if job is not None else []
        locks.append(self.folder.named(name) / ".lock")
        return next((lock for lock in locks if lock_holder(lock) is not None), None)

    def live(self, name: str) -> Live:
        """What the page of a run shows; read anew only as often as it costs little.

        Raises:
            NotThereError: There is none.
        """
        kept = self._lives.get(name)
        if kept is not None and time.monotonic() < kept[0] + max(
            _SECONDS_OF_A_PAGE, _REST * kept[1]
        ):
            return kept[2]
        start = time.monotonic()
        holder = self.holder(name)
        live = read_live(self.row(name), holder=holder, log=self._log(name, holder))
        if len(self._lives) > 50:
            self._lives.clear()
        self._lives[name] = (time.monotonic(), time.monotonic() - start, live)
        return live

    def _log(self, name: str, holder: int | None) -> list[str]:
        """What a run printed last, here or elsewhere."""
        remote = self._remote().get(name)
        if remote is not None and self._elsewhere is not None and holder is None:
            return self._elsewhere.log(remote.job, LOG_LINES)
        job = self._jobs.job(name)
        return log_tail(job.log, LOG_LINES) if job is not None else []

    def forget(self, name: str) -> None:
        """Read a run anew, as after a stop."""
        self._lives.pop(name, None)
        self._listed = (0.0, [])

    def stop(self, name: str) -> None:
        """Interrupt a run as Ctrl-C does, and wait a little for its end.

        Raises:
            NotThereError: There is no such run.
            UserError: No process of this user works on it.
        """
        self.row(name)
        remote = self._remote().get(name)
        if remote is not None and remote.state == "running" and self._elsewhere is not None:
            self._elsewhere.stop(remote.job)
            self.forget(name)
            return
        lock = self._held(name)
        if lock is None or not signal_holder(lock):
            raise UserError(f"run {name}: no process of yours works on it")
        end = time.monotonic() + _SECONDS_TO_STOP
        while lock_holder(lock) is not None and time.monotonic() < end:
            time.sleep(0.05)
        self.forget(name)

    def resume(self, name: str) -> None:
        """Go on with an interrupted run.

        Raises:
            NotThereError: There is no such run.
            UserError: It may not be started here, runs, or has finished.
        """
        self.row(name)
        self.may_start().resume(name)
        self.forget(name)

    def may_start(self) -> Starter:
        """What starts runs.

        Raises:
            UserError: The service was not started with an experiment.
        """
        if self.starter is None or not self.starter.experiments:
            raise UserError(
                "this service starts no runs; start it with `experiment` NAME for each that may be"
            )
        return self.starter

    def files(self, name: str) -> list[RunFile]:
        """The files of a run; none while it has no directory.

        Raises:
            NotThereError: There is no such run.
        """
        return self.folder.files(name) if self.row(name).path.exists() else []

    def estimate(self, new: NewRun) -> Estimate:
        """How long a new run may take."""
        from ws_learner.config import PROTOCOLS

        entry = PROTOCOLS.get(new.protocol or "optimal")
        searches = entry is not None and entry.propose is not None
        paths = [row.path for row in self.rows() if row.state == "finished"]
        return estimate(new, paths, searches=searches)

    def model(self, name: str) -> Path:
        """The weights of a finished run.

        Raises:
            NotThereError: There is no such run, or it has no weights yet.
            UserError: They, or the summary, are damaged or missing.
        """
        run = RunDir(self.folder.run(name))
        if not run.finished:
            raise NotThereError("the run has not finished: its weights are not there yet")
        try:
            check_result(
                unsealed(read_json(run.path / "summary.json"), "summary.json", _SEE), run.model
            )
        except UserError as error:
            raise UserError(str(error).replace(f"{run.path}/", "")) from error
        return self.folder.file(name, run.model.name)
