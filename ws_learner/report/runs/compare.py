"""Compare runs: settings that differ, metrics with intervals, ratios side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ws_learner.core import AnyPath, UserError, check_result
from ws_learner.report.runs.comparison import Comparison, MetricLine, RatioLine, SettingLine
from ws_learner.report.runs.differing_settings import differing_settings, same_data, settings_of
from ws_learner.report.runs.fields import read_object
from ws_learner.report.runs.metric_lines import metric_lines
from ws_learner.report.runs.reading import read_row
from ws_learner.report.runs.row import RunRow
from ws_learner.report.table import read_table

__all__ = ["compare_runs"]

_MOST_RUNS = 50
_OF_SEARCH = ("ws_nb_", "ws_rlouts_", "ws_patience", "ws_search_time", "ws_reward_", "ddpg_")
_SAMPLING = (
    "intervals: 95 %, of the sampling of examples only; runs with other seeds spread, too. The "
    "examples are taken as independent samples, which is wider than a paired comparison"
)


def compare_runs(runs: Sequence[RunRow | AnyPath]) -> Comparison:
    """Put runs side by side; what a run lacks, or is damaged, is missing and noted.

    Args:
        runs: Rows or folders of at least two runs; differences are against the first.

    Raises:
        UserError: There are fewer than two, or more than fifty.
    """
    if not 2 <= len(runs) <= _MOST_RUNS:
        raise UserError(f"`runs`: {len(runs)} given; give 2 to {_MOST_RUNS} runs")
    rows = tuple(read_row(run.path if isinstance(run, RunRow) else run) for run in runs)
    settings = [settings_of(row.path) for row in rows]
    same, differing = same_data(settings), differing_settings(settings)
    metrics = metric_lines(rows, comparable=same)
    kept, notes = _without_search(differing, metrics)
    ratios, unread = _ratios(rows)
    known = any(one is not None for line in metrics for one in line.differences)
    return Comparison(
        rows=rows,
        settings=kept,
        metrics=metrics,
        ratios=ratios,
        notes=(*_notes(rows, same=same), *unread, *notes, *([_SAMPLING] if known else [])),
    )


def _without_search(
    lines: tuple[SettingLine, ...], metrics: Sequence[MetricLine]
) -> tuple[tuple[SettingLine, ...], list[str]]:
    """The settings without those of a search, if a run had none, and a note about them."""
    rollouts = next((line.values for line in metrics if line.name == "rollouts"), ())
    kept = tuple(line for line in lines if not line.name.startswith(_OF_SEARCH))
    if len(kept) == len(lines) or 0 not in rollouts:
        return lines, []
    return kept, ["a run had no search, so settings of searches are not compared"]


def _notes(rows: Sequence[RunRow], *, same: bool) -> Iterator[str]:
    for row in rows:
        if row.state == "unknown":
            yield f"{row.id}: {row.reason}"
        elif row.state != "finished":
            yield f"{row.id}: is {row.state}, so its results are not there yet"
        elif row.reason:
            yield f"{row.id}: {row.reason}"
    if not same:
        yield "not known to be measured on the same examples: differences have no interval"


def _has_ratios(row: RunRow) -> bool:
    """Networks that were not pruned have no table of ratios."""
    return row.kind == "pruning" or os.path.lexists(Path(row.path) / "ratios.csv")


def _ratios(rows: Sequence[RunRow]) -> tuple[tuple[RatioLine, ...], list[str]]:
    """Layers side by side, and a note for each file that cannot be read."""
    columns, notes = list[dict[str, float]](), list[str]()
    for row in rows:
        columns.append({})
        path = Path(row.path) / "ratios.csv"
        if row.state != "finished" or not _has_ratios(row):
            continue
        try:
            check_result(read_object(path.with_name("summary.json")), path)
            frame = read_table(path)
        except UserError as error:
            if path.name not in row.reason:  # which is a note already
                notes.append(f"{row.id}: {error}")
        else:
            columns[-1] = dict(zip(frame["layer"], map(float, frame["achieved"]), strict=True))
    names = dict.fromkeys(name for column in columns for name in column)
    lines = (
        RatioLine(layer=name, values=tuple(column.get(name) for column in columns))
        for name in names
    )
    return tuple(lines), notes
