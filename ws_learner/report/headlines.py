"""Headline results as labelled text, shared by the terminal summary and the Markdown report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ws_learner.core import shown
from ws_learner.report.choice_columns import choice_cells, choice_heads, choice_totals
from ws_learner.report.metric_text import metric_of, percent
from ws_learner.report.table import totals

__all__ = [
    "budget_text",
    "cost_text",
    "duration_text",
    "layer_rows",
    "percent",
    "result_rows",
    "table_align",
    "table_heads",
    "title",
    "total_row",
]

_MOST_NAME = 200
_HEADS = ("layer", "role", "shape", "weights", "chosen", "achieved", "MACs", "MACs kept")
_ALIGN = ("left", "left", "right", "right", "right", "right", "right", "right")

_STOPPED = {
    "patience": "ended early, the best reward stopped rising",
    "time": "ended by the search time, so not reproducible",
    "exhausted": "ended early, no profile was new",
}


def title(summary: Mapping[str, Any]) -> str:
    """One line that names the run, e.g. `resnet_at_cifar10: gradual pruning, optimal ratios`."""
    name = shown(summary.get("experiment") or summary.get("network") or "network")
    if summary.get("learner") == "full-prec":
        return f"{name}: dense training"
    parts = [
        f"{shown(summary[key], most=_MOST_NAME)} {word}"
        for key, word in (("method", "method"), ("protocol", "ratios"), ("pattern", "pattern"))
        if summary.get(key)
    ]
    return f"{name}: {', '.join(parts)}" if parts else name


def result_rows(
    summary: Mapping[str, Any], frame: pd.DataFrame | None = None
) -> list[tuple[str, str]]:
    """Return the headline results as (label, value), without those the summary lacks.

    Args:
        summary: The content of `summary.json`.
        frame: The ratio table; its totals add counts of weights.
    """
    metric = metric_of(summary)
    budgets = [
        (f"budget {part['budget']}", budget_text(part)) for part in summary.get("budget_parts", ())
    ]
    rows = [
        (f"dense {metric.name} ({metric.measured_on})", metric.show(metric.value("dense"))),
        (f"sparse {metric.name} ({metric.measured_on})", metric.show(metric.value("sparse"))),
        (f"{metric.name} in INT8 ({metric.measured_on})", metric.show(metric.value("int8"))),
        ("change", metric.change()),
        ("dense accuracy (select)", percent(summary.get("dense_select_accuracy"))),
        ("sparse accuracy (select)", percent(summary.get("sparse_select_accuracy"))),
        *budgets,
        ("target prune ratio", _share(summary.get("target_prune_ratio"))),
        ("achieved prune ratio", _share(summary.get("achieved_prune_ratio"))),
        ("zero weights", _zeros(frame)),
        *((shown(name), shown(value)) for name, value in _more(summary).items()),
        ("MACs, dense", _count(summary.get("dense_macs"))),
        ("MACs, kept", _macs_kept(summary)),
        ("rollouts", _rollouts(summary)),
        ("profile by", _supplier(summary)),
        ("search time", duration_text(summary.get("search_seconds"))),
        ("training time", duration_text(summary.get("train_seconds"))),
    ]
    return [(label, value) for label, value in rows if value]


def _more(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """Further results that the summary holds as text, by label."""
    more = summary.get("more_results")
    return more if isinstance(more, Mapping) else {}


def table_heads(frame: pd.DataFrame) -> tuple[str, ...]:
    """Headings of the per-layer table; `chosen` and `achieved` are prune ratios."""
    return (*_HEADS, *(head for head, _ in choice_heads(frame)))


def table_align(frame: pd.DataFrame) -> tuple[str, ...]:
    """Alignment of each column."""
    return (*_ALIGN, *(align for _, align in choice_heads(frame)))


def layer_rows(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """One row of text per layer under `table_heads`."""
    return [
        (
            shown(row.layer, most=_MOST_NAME),
            shown(row.role),
            shown(row.shape),
            f"{row.weights:,}",
            f"{row.prune_ratio:.4f}",
            f"{row.achieved:.4f}",
            f"{row.macs:,}",
            f"{row.macs_kept:,}",
            *more,
        )
        for row, more in zip(frame.itertuples(), choice_cells(frame), strict=True)
    ]


def total_row(frame: pd.DataFrame) -> tuple[str, ...]:
    """The last row of the per-layer table."""
    total = totals(frame)
    weights = int(total["weights"])
    planned = float((frame["prune_ratio"] * frame["weights"]).sum()) / max(weights, 1)
    return (
        "total",
        "",
        "",
        f"{weights:,}",
        f"{planned:.4f}",
        f"{total['achieved_prune_ratio']:.4f}",
        f"{total['dense_macs']:,}",
        f"{total['kept_macs']:,}",
        *choice_totals(frame),
    )


def budget_text(part: Mapping[str, Any]) -> str:
    """What was asked, and what the finished network costs."""
    unit, found = str(part["unit"]), part.get("finished", part.get("measured"))
    if found is None:
        return f"at most {cost_text(unit, part['most'])}"
    share = found / part["most"] if part["most"] else 1.0
    return f"{cost_text(unit, found)} of {cost_text(unit, part['most'])} ({share:.1%})"


def cost_text(unit: str, value: float) -> str:
    """A cost in words: `3.21 ms`, `1.90 MB`, `12,345 macs`."""
    if unit.startswith("latency"):
        return f"{value:.3g} ms"
    if unit == "bytes":
        return f"{value / 1e6:.3g} MB" if value >= 1e5 else f"{value:,.0f} bytes"
    return f"{value:,.0f} {unit}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _rollouts(summary: Mapping[str, Any]) -> str:
    failed = summary.get("failed_rollouts")
    count = _count(summary.get("rollouts"))
    text = f"{count}, {failed:,} failed" if count and failed else count
    why = _STOPPED.get(summary.get("search_stopped", ""))
    return f"{text}; {why}" if text and why else text


def _supplier(summary: Mapping[str, Any]) -> str:
    supplier = summary.get("profile_by")
    if supplier is None:
        return ""
    return f"{supplier}, predicted reward {summary['predicted_reward']:.4f}"


def _zeros(frame: pd.DataFrame | None) -> str:
    if frame is None:
        return ""
    total = totals(frame)
    return f"{total['zeros']:,} of {total['weights']:,}"


def _macs_kept(summary: Mapping[str, Any]) -> str:
    dense, kept = summary.get("dense_macs"), summary.get("kept_macs")
    if kept is None:
        return ""
    return f"{kept:,} ({percent(kept / dense)})" if dense else f"{kept:,}"


def duration_text(seconds: float | None) -> str:
    """Seconds in words: `8.2 s`, `3 min 06 s`, `8 h 25 min`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
