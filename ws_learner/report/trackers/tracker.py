"""What an experiment tracker does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["EndState", "Tracker", "TrackerLike"]

EndState = Literal["finished", "failed", "stopped"]


class Tracker(Protocol):
    """Receives a run's parameters, metrics and files.

    Its methods are called one after the other, in a thread of their own. One that raises ends the
    tracking with one line; the run goes on.
    """

    @property
    def kind(self) -> str:
        """Name under which the run remembers what was sent, such as `mlflow`."""

    def begin(self, run: Path, *, name: str, tags: Sequence[str], place: str) -> str:
        """Open the run's entry.

        Args:
            run: The run's folder.
            name: What the run is called.
            tags: Its tags.
            place: What the last `begin` for this run returned; empty at first.

        Returns:
            Where the entry is. If this is not `place`, everything is sent again.
        """

    def parameters(self, values: Mapping[str, str]) -> None:
        """Settings, each of them once."""

    def metrics(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Finite numbers: (step, name -> value); a name has each step once, in rising order."""

    def artifact(self, file: Path) -> None:
        """A file of the finished run."""

    def end(self, state: EndState) -> None:
        """Close the entry; `begin` may open it again."""


TrackerLike = str | Tracker
"""A name of `TRACKERS`, or a tracker."""
