"""What the picture of a run compares: metric, size and latency of the dense and pruned network."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ws_learner.report.headlines import cost_text
from ws_learner.report.metric_text import metric_of
from ws_learner.report.table import totals

__all__ = ["Bar", "Panel", "summary_panels"]

NOT_MEASURED = "not measured\nws-learner export RUN --to deploy\nmeasures it on your machine"
_SHARE = re.compile(r"(?:bytes|latency)=(0?\.\d+|1|\d(?:\.\d+)?e-\d+)(?:@\w+)?")


@dataclass(frozen=True)
class Bar:
    """A value of one network.

    Attributes:
        network: `dense`, `pruned` or `in INT8`.
        value: Zero or above; the length of the bar.
        text: The value with its unit.
    """

    network: str
    value: float
    text: str


@dataclass(frozen=True)
class Panel:
    """Bars of one unit.

    Attributes:
        title: What is compared.
        bars: From top to bottom; none if it was not measured.
        note: What is shown in place of bars.
    """

    title: str
    bars: tuple[Bar, ...]
    note: str = ""


def summary_panels(
    summary: Mapping[str, Any],
    frame: pd.DataFrame | None = None,
    deployed: Mapping[str, Any] | None = None,
) -> list[Panel]:
    """Metric, size and latency, as far as the files of a run hold them.

    Size is in bytes if the run had a budget of bytes, else the count of nonzero weights. Latency
    is that of a budget of latency, else what `ws-learner export --to deploy` measured.

    Args:
        summary: The content of `summary.json`.
        frame: The ratio table.
        deployed: The content of `deploy/deploy.json`.
    """
    panels = [_metric(summary), _size(summary, frame), _latency(summary, deployed or {})]
    return [panel for panel in panels if panel is not None]


def _metric(summary: Mapping[str, Any]) -> Panel | None:
    metric = metric_of(summary)
    bars = []
    for network, key in (("dense", "dense"), ("pruned", "sparse"), ("in INT8", "int8")):
        value = _number(metric.value(key))
        if value is not None:
            bars.append(Bar(network, max(value, 0.0), metric.show(value)))
    better = "" if metric.higher_is_better else ", lower is better"
    return Panel(f"{metric.name} ({metric.measured_on}{better})", tuple(bars)) if bars else None


def _size(summary: Mapping[str, Any], frame: pd.DataFrame | None) -> Panel | None:
    for part in _parts(summary, "bytes"):
        return Panel("size of the weights on disk", _costs(part, "bytes"))
    if frame is None or frame.empty:
        return None
    total = totals(frame)
    dense, kept = int(total["weights"]), int(total["weights"] - total["zeros"])
    pair = (("dense", dense), ("pruned", kept))
    bars = tuple(Bar(name, float(count), f"{count:,}") for name, count in pair)
    return Panel("nonzero weights", bars)


def _latency(summary: Mapping[str, Any], deployed: Mapping[str, Any]) -> Panel:
    for part in _parts(summary, "latency"):
        engine = str(part["unit"]).partition("@")[2] or "wsr"
        return Panel(f"latency in {_ENGINES.get(engine, engine)}", _costs(part, "latency"))
    measured = _median(deployed.get("measured_ms"))
    if measured is None:
        return Panel("latency", (), NOT_MEASURED)
    engine, batch = str(deployed.get("engine", "wsr")), deployed.get("batch")
    bars = [Bar(_ENGINES.get(engine, engine), measured, cost_text("latency", measured))]
    torch = _median(deployed.get("pytorch_ms"))
    if torch is not None:
        bars.insert(0, Bar("dense PyTorch", torch, cost_text("latency", torch)))
    examples = f", batch {batch}" if isinstance(batch, int) else ""
    return Panel(f"latency{examples}", tuple(bars))


_ENGINES = {"wsr": "our runtime"}


def _parts(summary: Mapping[str, Any], unit: str) -> Iterator[Mapping[str, Any]]:
    """The budgets of a unit for which the finished network was measured."""
    parts = summary.get("budget_parts")
    for part in parts if isinstance(parts, list) else ():
        fits = isinstance(part, Mapping) and str(part.get("unit", "")).partition("@")[0] == unit
        if fits and _number(part.get("finished", part.get("measured"))) is not None:
            yield part


def _costs(part: Mapping[str, Any], unit: str) -> tuple[Bar, ...]:
    """The dense network's cost, which a share or the pace tells, and the finished one's."""
    finished = float(part.get("finished", part.get("measured")))
    bars = [Bar("pruned", finished, cost_text(unit, finished))]
    share, most = _SHARE.fullmatch(str(part.get("budget"))), _number(part.get("most"))
    dense = _number(part.get("pace"))
    if share is not None and most is not None:
        dense = most / float(share[1])
    if dense is not None:
        bars.insert(0, Bar("dense", dense, cost_text(unit, dense)))
    return tuple(bars)


def _median(measured: Any) -> float | None:
    return _number(measured.get("median")) if isinstance(measured, Mapping) else None


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and abs(value) < 1e300 and math.isfinite(value) else None
