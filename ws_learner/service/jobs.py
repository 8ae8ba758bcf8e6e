"""Runs that the service has started: their command, log and lock, so that it finds them again.

A run's own directory is locked only once the dense network is there, and holds nothing before. The
folder `.service/ID` beside the runs is there from the start.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ws_learner.core import UserError, read_json, shown, write_json
from ws_learner.service.locks import lock_holder

__all__ = ["Job", "JobFolder", "log_tail", "read_job"]

_INTERRUPTED = (130, 143, -2, -15, -9)
_TAIL = 64 << 10


@dataclass(frozen=True)
class Job:
    """A run that the service has started.

    Attributes:
        id: Of the run.
        folder: Of its command, log and lock.
        words: Of the command line.
        started: The last start, in seconds since 1970.
    """

    id: str
    folder: Path
    words: tuple[str, ...]
    started: float

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by its process from start to end."""
        return self.folder / "lock"

    @property
    def experiment(self) -> str:
        """Its name, as far as the command says it."""
        named = next((word for word in self.words if not word.startswith("-")), "")
        return shown(Path(named).stem)

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return lock_holder(self.lock) is not None

    @property
    def state(self) -> str:
        """`running`, `finished`, `stopped` or `failed`."""
        if self.running:
            return "running"
        ended = _read(self.folder / "exit.json")
        code = ended.get("code") if ended.get("started") == self.started else None
        if code == 0:
            return "finished"
        return "stopped" if code is None or code in _INTERRUPTED else "failed"

    def ended(self, code: int) -> None:
        """Note the exit code."""
        write_json(self.folder / "exit.json", {"code": code, "started": self.started})


class JobFolder:
    """The folders of the runs that the service has started.

    Args:
        runs: The folder of run directories.
    """

    def __init__(self, runs: Path) -> None:
        self.path = runs / ".service"

    def all(self) -> list[Job]:
        """Every one that can be read."""
        there = sorted(self.path.iterdir()) if self.path.is_dir() else []
        return [job for path in there if (job := self.job(path.name)) is not None]

    def job(self, name: str) -> Job | None:
        """The one of a run; None if the service did not start it. `name` is an id, checked."""
        return read_job(self.path / name)

    def create(self, name: str, words: Sequence[str]) -> Job:
        """Note the command of a run that is about to be started, or started again."""
        folder = self.path / name
        job = Job(id=name, folder=folder, words=tuple(words), started=time.time())
        write_json(folder / "command.json", {"words": list(words), "started": job.started})
        return job


def read_job(folder: Path) -> Job | None:
    """The job of a folder; None if there is none to read."""
    made = _read(folder / "command.json")
    words, started = made.get("words"), made.get("started")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    if not isinstance(started, float):
        return None
    return Job(id=folder.name, folder=folder, words=tuple(words), started=started)


def log_tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, without control characters."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    rows = text.replace("\r\n", "\n").replace("\r", "\n").splitlines()[-lines:]
    return ["".join(one if one.isprintable() else " " for one in row)[:400] for row in rows]


def _read(path: Path) -> dict[str, Any]:
    try:
        made = read_json(path)
    except (OSError, UserError, json.JSONDecodeError):
        return {}
    return made if isinstance(made, dict) else {}
