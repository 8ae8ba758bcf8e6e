"""The cards at the top: metric, zeros, multiply-accumulates, size, latency, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ws_learner.report.headlines import budget_text, duration_text, percent
from ws_learner.report.html.commands import run_path
from ws_learner.report.html.run_files import RunFiles, plain, text
from ws_learner.report.intervals import counted, share_interval
from ws_learner.report.table import totals

__all__ = ["Card", "cards_of"]


@dataclass(frozen=True)
class Card:
    """A number with its label, and lines of detail below it."""

    label: str
    value: str
    lines: tuple[str, ...] = ()


def cards_of(files: RunFiles) -> list[Card]:
    """The cards of a run; what it did not measure says how to measure it."""
    makers = (_metric, _zeros, _macs, _size, _latency, _time)
    return [card for card in (make(files) for make in makers) if card is not None]


def _metric(files: RunFiles) -> Card | None:
    metric = files.metric
    dense, sparse = metric.value("dense"), metric.value("sparse")
    values = [metric.show(value) for value in (dense, sparse) if value is not None]
    if not values:
        return None
    lines = [f"change {metric.change()}"] if metric.change() else []
    if metric.value("int8") is not None:
        lines.append(f"in INT8 {metric.show(metric.value('int8'))}")
    if not metric.higher_is_better:
        lines.append("lower is better")
    lines += _intervals(files, {"dense": dense, "sparse": sparse})
    label = f"{text(metric.name, 60)} ({text(metric.measured_on, 20)})"
    shown = " → ".join(values).replace(" %", "\N{NO-BREAK SPACE}%")
    return Card(label, shown, tuple(lines))


def _intervals(files: RunFiles, values: Mapping[str, float | None]) -> list[str]:
    sizes = files.summary.get("split_sizes")
    total = plain(sizes.get("test")) if isinstance(sizes, Mapping) else None
    if files.metric.unit != "share" or not total or not files.metric.higher_is_better:
        return ["no interval: the metric is no share of examples, and this is one seed"]
    there = {name: value for name, value in values.items() if value is not None}
    hits = {name: counted(value, int(total)) for name, value in there.items()}
    if None in hits.values():
        return ["no interval: the scores are not right or wrong per example; one seed"]
    lines = [f"95 % intervals from {int(total):,} examples (Wilson), one seed:"]
    for name, number in hits.items():
        low, high = share_interval((number or 0) / total, int(total))
        lines.append(f"{name} {100 * low:.2f} to {100 * high:.2f} %")
    return lines


def _zeros(files: RunFiles) -> Card | None:
    if files.ratios is None:
        return None
    total = totals(files.ratios)
    target = plain(files.summary.get("target_prune_ratio"))
    lines = [f"{100 * total['achieved_prune_ratio']:.4f} % of the weights in the layer table"]
    if target is not None:
        lines.append(f"target {target:.6g}")
    return Card("zero weights", f"{total['zeros']:,} of {total['weights']:,}", tuple(lines))


def _macs(files: RunFiles) -> Card | None:
    dense, kept = (plain(files.summary.get(name)) for name in ("dense_macs", "kept_macs"))
    if kept is None:
        return None
    share = (f"{percent(kept / dense)} of {dense:,.0f}",) if dense else ()
    lines = (*share, "of one example, with a nonzero weight")
    return Card("multiply-accumulates kept", f"{kept:,.0f}", lines)


def _size(files: RunFiles) -> Card:
    lines = ["zeros take space in model.safetensors; a .wsr file stores nonzero weights only"]
    deployed = plain(files.deployed.get("bytes"))
    if deployed is not None:
        lines.insert(
            0, f"as exported for {text(files.deployed.get('engine'), 20)}: {_bytes(deployed)}"
        )
    if not files.run.model.exists():
        return Card("size on disk", "not in this folder", tuple(lines))
    return Card("size on disk", _bytes(files.run.model.stat().st_size), tuple(lines))


def _bytes(count: float) -> str:
    if count >= 1e6:
        return f"{count / 1e6:.2f} MB"
    return f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count:.0f} bytes"


def _latency(files: RunFiles) -> Card:
    budgets = files.summary.get("budget_parts")
    for part in budgets if isinstance(budgets, list) else ():
        if isinstance(part, Mapping) and str(part.get("unit", "")).startswith("latency"):
            return Card("latency", text(budget_text(part), 60), (text(part.get("budget")),))
    found = _deployed(files.deployed)
    if found is not None:
        return found
    how = f"ws-learner export {run_path(files.run.path)} --to deploy measures it on your machine"
    return Card("latency", "not measured", (how,))


def _deployed(record: Mapping[str, Any]) -> Card | None:
    measured = record.get("measured_ms")
    median = plain(measured.get("median")) if isinstance(measured, Mapping) else None
    if median is None:
        return None
    about = [f"{name} {text(record.get(name), 40)}" for name in ("engine", "threads", "batch")]
    return Card("latency", f"{median:.3g} ms", (", ".join(about), "measured by ws-learner export"))


def _time(files: RunFiles) -> Card | None:
    search, train = (plain(files.summary.get(f"{one}_seconds")) for one in ("search", "train"))
    if search is None and train is None:
        return None
    parts = (("search", search), ("training", train))
    lines = tuple(f"{name} {duration_text(value)}" for name, value in parts if value is not None)
    return Card("time", duration_text((search or 0.0) + (train or 0.0)), lines)
