"""Runs of a folder: one row each, names and tags, comparisons; from their files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.report.runs.compare import compare_runs
    from ws_learner.report.runs.comparison import (
        Comparison,
        Difference,
        MetricLine,
        RatioLine,
        SettingLine,
    )
    from ws_learner.report.runs.label import Label, check_label, read_label, write_label
    from ws_learner.report.runs.listing import list_runs
    from ws_learner.report.runs.reading import is_run, read_row
    from ws_learner.report.runs.row import RunRow, RunState

__all__ = [
    "Comparison",
    "Difference",
    "Label",
    "MetricLine",
    "RatioLine",
    "RunRow",
    "RunState",
    "SettingLine",
    "check_label",
    "compare_runs",
    "is_run",
    "list_runs",
    "read_label",
    "read_row",
    "write_label",
]

_MODULES = {
    "compare": ["compare_runs"],
    "comparison": ["Comparison", "Difference", "MetricLine", "RatioLine", "SettingLine"],
    "label": ["Label", "check_label", "read_label", "write_label"],
    "listing": ["list_runs"],
    "reading": ["is_run", "read_row"],
    "row": ["RunRow", "RunState"],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
