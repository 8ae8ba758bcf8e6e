"""Trackers by name, and whether their packages are installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import cast

from ws_learner.core import UserError, shown_repr, suggest
from ws_learner.report.trackers.tracker import Tracker, TrackerLike

__all__ = ["TRACKERS", "build_trackers", "check_trackers"]


@dataclass(frozen=True, kw_only=True)
class TrackerEntry:
    """A tracker that has a name.

    Attributes:
        factory: `module:name` of what builds it, without arguments.
        package: What must be installed.
        install: How it is installed.
    """

    factory: str
    package: str
    install: str


TRACKERS: dict[str, TrackerEntry] = {
    "tensorboard": TrackerEntry(
        factory="ws_learner.report.trackers.tensorboard:TensorBoardTracker",
        package="tensorboardX",
        install="pip install tensorboardX",
    ),
    "mlflow": TrackerEntry(
        factory="ws_learner.report.trackers.mlflow:MLflowTracker",
        package="mlflow",
        install="pip install 'weight-sparse-learner[mlflow]'",
    ),
}


def check_trackers(trackers: Sequence[TrackerLike], *, name: str = "track") -> None:
    """Refuse trackers that there are not, or whose package is missing.

    Args:
        trackers: Names or trackers.
        name: Of the argument, for messages.

    Raises:
        UserError: The line says which, and how to install it.
    """
    if isinstance(trackers, str):
        raise UserError(f"`{name}` {trackers}: give a list, such as [{trackers!r}]")
    for one in trackers:
        if not isinstance(one, str):
            lacking = [part for part in _PARTS if not hasattr(one, part)]
            if lacking:
                raise UserError(
                    f"`{name}` {shown_repr(one)}: no tracker (it has no `{lacking[0]}`); give a "
                    f"name, one of {', '.join(TRACKERS)}"
                )
        elif one not in TRACKERS:
            raise UserError(f"`{name}` {one}: no such tracker; {suggest(one, TRACKERS)}")
        elif find_spec(TRACKERS[one].package) is None:
            raise UserError(
                f"`{name}` {one}: {TRACKERS[one].package} is not installed; {TRACKERS[one].install}"
            )


def build_trackers(trackers: Sequence[TrackerLike]) -> list[Tracker]:
    """The trackers that are meant; each name once."""
    check_trackers(trackers)
    return [_build(one) if isinstance(one, str) else one for one in dict.fromkeys(trackers)]


_PARTS = ("kind", "begin", "parameters", "metrics", "artifact", "end")


def _build(name: str) -> Tracker:
    module, _, factory = TRACKERS[name].factory.partition(":")
    return cast(Tracker, getattr(importlib.import_module(module), factory)())
