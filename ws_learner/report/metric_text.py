"""The metric of a run as its summary names it, and its values as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MetricText", "metric_of", "percent"]


@dataclass(frozen=True)
class MetricText:
    """Name, unit and direction of a metric, and the values of a summary.

    Attributes:
        name: Such as `accuracy` or `MSE`.
        unit: `share` for values in [0, 1], else what stands behind a number.
        higher_is_better: Whether more of it is better.
        measured_on: `test`, or `validation` where there was no test set.
        summary: The run's summary.
    """

    name: str
    unit: str
    higher_is_better: bool
    measured_on: str
    summary: Mapping[str, Any] = field(repr=False)

    def value(self, network: str) -> float | None:
        """The metric of a network at the end, `dense` or `sparse`; None without one."""
        own = self.summary.get(f"{network}_metric")
        value: float | None = self.summary.get(f"{network}_accuracy") if own is None else own
        return value

    def show(self, value: float | None) -> str:
        """A value with its unit, a share in percent; empty for None."""
        if value is None or self.unit == "share":
            return percent(value)
        return f"{value:.6g} {self.unit}".rstrip()

    def change(self) -> str:
        """How much the sparse network's value is above the dense one's; empty without both."""
        dense, sparse = self.value("dense"), self.value("sparse")
        if dense is None or sparse is None:
            return ""
        if self.unit == "share":
            text = f"{100 * (sparse - dense):+.2f} points"
        else:
            text = f"{sparse - dense:+.4g} {self.unit}".rstrip()
        if self.higher_is_better or sparse == dense:
            return text
        return f"{text} ({'worse' if sparse > dense else 'better'})"


def metric_of(summary: Mapping[str, Any]) -> MetricText:
    """The metric that a summary names; one without a name is of an accuracy."""
    return MetricText(
        name=str(summary.get("metric", "accuracy")),
        unit=str(summary.get("metric_unit", "share")),
        higher_is_better=bool(summary.get("higher_is_better", True)),
        measured_on=str(summary.get("measured_on", "test")),
        summary=summary,
    )


def percent(value: float | None) -> str:
    """Format a share as percent with two decimals; empty for None."""
    return "" if value is None else f"{100 * value:.2f} %"
