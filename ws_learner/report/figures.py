"""The figures of a report: summary, ratios per layer, schedule, search, frontier."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from ws_learner.core import AnyPath, RunDir, as_path, read_json
from ws_learner.report.csv_io import read_frontier, read_rollouts
from ws_learner.report.figure_style import plain_label
from ws_learner.report.frontier_figure import frontier_figure
from ws_learner.report.metric_text import metric_of
from ws_learner.report.metrics import read_metrics
from ws_learner.report.ratios_figure import ratios_figure
from ws_learner.report.schedule_figure import schedule_figure
from ws_learner.report.search_figure import search_figure
from ws_learner.report.summary_figure import summary_figure
from ws_learner.report.table import read_table

__all__ = [
    "draw_all",
    "draw_summary",
    "frontier_figure",
    "ratios_figure",
    "schedule_figure",
    "search_figure",
    "summary_figure",
]


def draw_all(run_dir: AnyPath) -> list[Path]:
    """Draw the figures that a run's files allow; return their paths in `run_dir/figures`."""
    run_dir = as_path(run_dir, name="run_dir")
    drawn: list[Path] = []
    summary = run_dir / "summary.json"
    facts = read_json(summary) if summary.exists() else {}
    metric, chosen = metric_of(facts), facts.get("chosen_rollout")
    unit = metric.unit if metric.unit not in ("", "share") else ""
    name = plain_label(metric.name)
    named = f"{name}\n({plain_label(unit)})" if unit else name
    for source, name, read, draw in (
        ("ratios.csv", "ratios.svg", read_table, ratios_figure),
        ("metrics.csv", "schedule.svg", read_metrics, partial(schedule_figure, metric=named)),
        ("rollouts.csv", "search.svg", read_rollouts, partial(search_figure, chosen=chosen)),
        ("frontier.csv", "frontier.svg", read_frontier, partial(frontier_figure, metric=named)),
    ):
        frame = read(run_dir / source) if (run_dir / source).exists() else pd.DataFrame()
        if not frame.empty:
            drawn.append(run_dir / "figures" / name)
            draw(frame, drawn[-1])
    if "sparse_metric" in facts or "sparse_accuracy" in facts:
        drawn.append(draw_summary(run_dir, run_dir / "figures" / "summary.svg"))
    return drawn


def draw_summary(run_dir: AnyPath, path: AnyPath) -> Path:
    """Draw the picture of a finished run from its files; return `path`.

    Args:
        run_dir: The run.
        path: The `.svg` or `.png` to write.

    Raises:
        UserError: The run is not finished, or a result is damaged.
    """
    run, path = RunDir(as_path(run_dir, name="run_dir")), as_path(path, name="path")
    summary = run.read_summary()
    frame = read_table(run.ratios) if run.ratios.exists() else None
    record = run.path / "deploy" / "deploy.json"
    deployed = read_json(record) if record.exists() else {}
    summary_figure(summary, frame, path, deployed=deployed)
    return path
