"""Starts runs as processes of this machine that outlive the service."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cli.discovery import bundled_name, own_file
from experiments.cli.serve.form_words import OF_FORM, named_experiments, own_words, words_of
from ws_learner.config import PATTERNS, PROTOCOLS
from ws_learner.core import (
    RunDir,
    UserError,
    folder_name,
    read_yaml_file,
    sha256_of,
    shown,
    suggest,
)
from ws_learner.service import Checked, Job, JobFolder, NewRun, Plan, lock_holder

__all__ = ["ProcessStarter"]

_ROOT = Path(__file__).parents[3]
_SECONDS_TO_CHECK, _SECONDS_TO_START = 180.0, 30.0
_NOT_RESUMED_WITH = ("ws_save_path", "include")


class ProcessStarter:
    """Starts runs of the experiments that it was given, and of no others.

    Args:
        runs: Folder of the run directories.
        experiments: Names or files.
        extra: Words that every command gets, such as --data_dir DIR.
        most: Runs at a time.
    """

    def __init__(
        self, runs: Path, experiments: Sequence[str], *, extra: Sequence[str] = (), most: int = 2
    ) -> None:
        self._runs, self._extra, self._most = runs.absolute(), tuple(extra), most
        self._experiments = named_experiments(experiments)
        self._jobs = JobFolder(self._runs)
        self._starting, self._checking = threading.Lock(), threading.Lock()

    @property
    def experiments(self) -> tuple[str, ...]:
        """Their short names."""
        return tuple(self._experiments)

    @property
    def protocols(self) -> tuple[str, ...]:
        """Those that choose ratios by themselves."""
        return tuple(name for name in PROTOCOLS if name != "given")

    @property
    def patterns(self) -> tuple[str, ...]:
        """Spellings, as suggestions."""
        return tuple(getattr(entry, "spelling", "") or name for name, entry in PATTERNS.items())

    def plan(self, new: NewRun) -> Plan:
        """The command of a request; the id is of its settings and the experiment's file."""
        if new.experiment not in self._experiments:
            allowed = ", ".join(self._experiments) or "none"
            raise UserError(
                f"experiment {shown(new.experiment)}: the service was not started with it; "
                f"it may start: {allowed}"
            )
        if new.protocol is not None and new.protocol not in self.protocols:
            near = suggest(new.protocol, self.protocols)
            raise UserError(f"protocol {shown(new.protocol)}: no such choice; {near}")
        given = self._experiments[new.experiment]
        words = [*words_of(new, experiment=given), *self._extra]
        run = self._id(new)
        return Plan(
            id=run,
            command=shlex.join(["ws-learner", "prune", *words]),
            words=(*words, f"--run_dir={self._runs / run}"),
        )

    def _id(self, new: NewRun) -> str:
        same = new.model_copy(update={"workers": None, "name": None})
        given = self._experiments[new.experiment]
        settings: list[Any] = [words_of(same, experiment=given), list(self._extra)]
        if (file := own_file(given)) is not None:
            settings.append(sha256_of(file))
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
        target = new.budget or (f"{new.prune_ratio:g}" if new.prune_ratio else "default")
        stem = Path(new.experiment).stem
        name = new.name or f"{stem}-{new.protocol or 'default'}-{target}"
        return f"{folder_name(name.replace(' ', '_'))}-{digest}"

    def check(self, plan: Plan) -> Checked:
        """Run the command line's checks in a process; one at a time."""
        command = [sys.executable, "-m", "experiments.cli.serve.check", *plan.words]
        with self._checking:
            try:
                done = subprocess.run(
                    command,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=_SECONDS_TO_CHECK,
                )
            except subprocess.TimeoutExpired:
                slow = f"the checks took longer than {_SECONDS_TO_CHECK:.0f} s; data may still have"
                return Checked((f"{slow} to be downloaded: run the command at a terminal once",))
        lines = [line.rstrip() for line in done.stderr.splitlines() if line.strip()]
        notes = [line for line in lines if line.startswith(("adjusted: ", "unused: "))]
        if done.returncode == 0:
            return Checked((), tuple(notes))
        start = next((i for i, line in enumerate(lines) if line.startswith("error: ")), None)
        told = lines[-3:] if start is None else lines[start:]
        problems = [line.strip().removeprefix("error: ") for line in told]
        return Checked(tuple(problems) or ("the checks failed without a word",), tuple(notes))

    def start(self, plan: Plan) -> None:
        """Start the process of a run."""
        if RunDir(self._runs / plan.id).finished:
            raise UserError(f"run {plan.id}: has finished already, with these settings")
        self._start(plan.id, plan.words)

    def resume(self, run: str) -> None:
        """Start the command of a run again; it goes on from the last checkpoint."""
        if RunDir(self._runs / run).finished:
            raise UserError(f"run {run}: has finished")
        job = self._jobs.job(run)
        noted = job is not None and self._is_ours(run, own_words(job.words))
        self._start(run, job.words if job is not None and noted else self._words_of_run(run))

    def _is_ours(self, run: str, words: Sequence[str]) -> bool:
        """Whether a noted command is one that `plan` makes; the folder may come from anywhere."""
        experiment, *flags = words or ("",)
        ending = [*self._extra, f"--run_dir={self._runs / run}"]
        form = flags[: -len(ending)]
        return (
            experiment in self._experiments.values()
            and flags[-len(ending) :] == ending
            and all(OF_FORM.fullmatch(word) for word in form)
        )

    def _words_of_run(self, run: str) -> tuple[str, ...]:
        """The command of a run that was started elsewhere; the folder brings no code in."""
        config = self._runs / run / "config.yaml"
        remedy = "start its command again at a terminal"
        settings = None
        if config.is_file():
            settings = read_yaml_file(config, where=str(config), remedy=remedy)
        if not isinstance(settings, dict):
            raise UserError(f"run {run}: has no config.yaml; {remedy}")
        name = self._same_experiment(str(settings.get("experiment")))
        if name is None:
            raise UserError(
                f"run {run}: is of an experiment that this service may not start; {remedy}"
            )
        for setting in _NOT_RESUMED_WITH:
            if settings.get(setting):
                raise UserError(f"run {run}: sets {setting}; start its command at a terminal")
        return (name, f"--config={config}", f"--run_dir={self._runs / run}")

    def _same_experiment(self, made: str) -> str | None:
        """The experiment of ours that a run's settings name."""
        for name in self._experiments.values():
            ours, theirs = own_file(name), own_file(made)
            if ours is not None and ours == theirs:
                return name
            if ours is None and bundled_name(name) == bundled_name(made) is not None:
                return name
        return None

    def _start(self, run: str, words: Sequence[str]) -> None:
        with self._starting:
            self._refuse(run, [job.id for job in self._jobs.all() if job.running])
            job = self._jobs.create(run, words)
            with job.log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "experiments.cli.serve.job", str(job.folder)],
                    env=_environment() | {"PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # the service's Ctrl-C is not the run's
                )
            threading.Thread(target=process.wait, daemon=True).start()  # no zombie stays
            _wait(job, process)

    def _refuse(self, run: str, running: Sequence[str]) -> None:
        """Refuse a run that runs already, and one too many."""
        if run in running or lock_holder(self._runs / run / ".lock") is not None:
            raise UserError(f"run {run}: runs already")
        if len(running) >= self._most:
            many = f"{len(running)} runs are running, and --max_runs is {self._most}"
            raise UserError(f"{many}; wait, or stop one")


def _wait(job: Job, process: subprocess.Popen[bytes]) -> None:
    """Wait until the run's process has its lock."""
    end = time.monotonic() + _SECONDS_TO_START
    while not job.running and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def _environment() -> dict[str, str]:
    there = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *([there] if there else [])])}
