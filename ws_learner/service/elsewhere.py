"""Runs that work on other machines, such as the jobs of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ws_learner.core import check_settings
from ws_learner.report import RunState

__all__ = ["Elsewhere", "RemoteRun"]


@dataclass(frozen=True)
class RemoteRun:
    """A run on other machines.

    Attributes:
        job: Its name there.
        id: Of the run here: its directory's name, or that of the job where none is known.
        state: As the cluster sees it.
        command: Its command line.
        started: Seconds since 1970.
    """

    job: str
    id: str
    state: RunState
    command: str
    started: float

    def __post_init__(self) -> None:
        check_settings(self)


class Elsewhere(Protocol):
    """Knows the runs of other machines; the command line implements it."""

    def all(self) -> list[RemoteRun]:
        """Every run, newest first; the last list known if the cluster does not answer."""

    def log(self, job: str, lines: int) -> list[str]:
        """The last lines that a run has printed."""

    def stop(self, job: str) -> None:
        """Interrupt a run, so that it can be resumed.

        Raises:
            UserError: The cluster does not answer.
        """
