"""Experiment trackers: a run's parameters, metrics and files in TensorBoard or MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.report.trackers.following import track_run, tracking
    from ws_learner.report.trackers.registry import TRACKERS, check_trackers
    from ws_learner.report.trackers.tracker import Tracker, TrackerLike

__all__ = [
    "TRACKERS",
    "Tracker",
    "TrackerLike",
    "check_trackers",
    "track_run",
    "tracking",
]

_MODULES = {
    "registry": ["TRACKERS", "check_trackers"],
    "tracker": ["Tracker", "TrackerLike"],
    "following": ["track_run", "tracking"],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
