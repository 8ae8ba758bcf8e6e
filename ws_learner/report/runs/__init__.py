"""Runs of a folder: one row each, names and tags, comparisons; from their files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.report.runs.cells import metric_cells
    from ws_learner.report.runs.columns import run_columns
    from ws_learner.report.runs.compare import compare_runs
    from ws_learner.report.runs.comparison import (
        Comparison,
        Difference,
        MetricLine,
        RatioLine,
        SettingLine,
    )
    from ws_learner.report.runs.finding import find_run
    from ws_learner.report.runs.label import (
        Label,
        check_label,
        label_problems,
        read_label,
        write_label,
    )
    from ws_learner.report.runs.letter_names import letters
    from ws_learner.report.runs.listing import list_runs
    from ws_learner.report.runs.pages import comparison_page, runs_page
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
    "comparison_page",
    "find_run",
    "is_run",
    "label_problems",
    "letters",
    "list_runs",
    "metric_cells",
    "read_label",
    "read_row",
    "run_columns",
    "runs_page",
    "write_label",
]

_MODULES = {
    "cells": ["metric_cells"],
    "columns": ["run_columns"],
    "compare": ["compare_runs"],
    "comparison": ["Comparison", "Difference", "MetricLine", "RatioLine", "SettingLine"],
    "finding": ["find_run"],
    "label": ["Label", "check_label", "label_problems", "read_label", "write_label"],
    "letter_names": ["letters"],
    "listing": ["list_runs"],
    "pages": ["comparison_page", "runs_page"],
    "reading": ["is_run", "read_row"],
    "row": ["RunRow", "RunState"],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
