"""Reports of a run: tables, figures, `report.md` and metrics, from the files in its directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.report.csv_io import DAMAGED_TABLE, read_frontier, read_rollouts
    from ws_learner.report.earlier_runs import expected_seconds
    from ws_learner.report.figures import draw_all, draw_summary
    from ws_learner.report.headlines import cost_text
    from ws_learner.report.html import write_html
    from ws_learner.report.markdown import headline, write_report
    from ws_learner.report.metric_text import metric_of
    from ws_learner.report.metrics import MetricsLog
    from ws_learner.report.policy_figures import policy_figure
    from ws_learner.report.progress_log import (
        ProgressLine,
        last_progress,
        parse_progress,
        read_progress,
    )
    from ws_learner.report.ratios_file import layers_in_ratios, read_ratios
    from ws_learner.report.report_file import (
        refuse_other_ending,
        refuse_other_picture,
        write_report_file,
    )
    from ws_learner.report.runs import (
        Comparison,
        Label,
        RunRow,
        RunState,
        check_label,
        compare_runs,
        comparison_page,
        find_run,
        is_run,
        label_problems,
        letters,
        list_runs,
        metric_cells,
        read_label,
        read_row,
        run_columns,
        runs_page,
        write_label,
    )
    from ws_learner.report.sensitivity_heat_map import sensitivity_figure
    from ws_learner.report.table import ratio_table, read_table, to_csv, totals
    from ws_learner.report.terminal import print_summary
    from ws_learner.report.trackers import (
        TRACKERS,
        Tracker,
        TrackerLike,
        check_trackers,
        track_run,
        tracking,
    )

__all__ = [
    "DAMAGED_TABLE",
    "TRACKERS",
    "Comparison",
    "Label",
    "MetricsLog",
    "ProgressLine",
    "RunRow",
    "RunState",
    "Tracker",
    "TrackerLike",
    "check_label",
    "check_trackers",
    "compare_runs",
    "comparison_page",
    "cost_text",
    "draw_all",
    "draw_summary",
    "expected_seconds",
    "find_run",
    "headline",
    "is_run",
    "label_problems",
    "last_progress",
    "layers_in_ratios",
    "letters",
    "list_runs",
    "metric_cells",
    "metric_of",
    "parse_progress",
    "policy_figure",
    "print_summary",
    "ratio_table",
    "read_frontier",
    "read_label",
    "read_progress",
    "read_ratios",
    "read_rollouts",
    "read_row",
    "read_table",
    "refuse_other_ending",
    "refuse_other_picture",
    "run_columns",
    "runs_page",
    "sensitivity_figure",
    "to_csv",
    "totals",
    "track_run",
    "tracking",
    "write_html",
    "write_label",
    "write_report",
    "write_report_file",
]

_MODULES = {
    "headlines": [
        "cost_text",
    ],
    "csv_io": [
        "DAMAGED_TABLE",
        "read_frontier",
        "read_rollouts",
    ],
    "earlier_runs": [
        "expected_seconds",
    ],
    "html": [
        "write_html",
    ],
    "figures": [
        "draw_all",
        "draw_summary",
    ],
    "markdown": [
        "headline",
        "write_report",
    ],
    "metric_text": [
        "metric_of",
    ],
    "metrics": [
        "MetricsLog",
    ],
    "policy_figures": [
        "policy_figure",
    ],
    "progress_log": [
        "ProgressLine",
        "last_progress",
        "parse_progress",
        "read_progress",
    ],
    "ratios_file": [
        "layers_in_ratios",
        "read_ratios",
    ],
    "report_file": [
        "refuse_other_ending",
        "refuse_other_picture",
        "write_report_file",
    ],
    "runs": [
        "Comparison",
        "Label",
        "RunRow",
        "RunState",
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
    ],
    "sensitivity_heat_map": [
        "sensitivity_figure",
    ],
    "table": [
        "ratio_table",
        "read_table",
        "to_csv",
        "totals",
    ],
    "terminal": [
        "print_summary",
    ],
    "trackers": [
        "TRACKERS",
        "Tracker",
        "TrackerLike",
        "check_trackers",
        "track_run",
        "tracking",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
