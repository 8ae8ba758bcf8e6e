"""What a comparison of runs holds."""

from __future__ import annotations

from dataclasses import dataclass

from ws_learner.report.runs.row import RunRow

__all__ = ["Comparison", "Difference", "MetricLine", "RatioLine", "SettingLine"]


@dataclass(frozen=True, kw_only=True)
class SettingLine:
    """A setting that is not the same in all runs.

    Attributes:
        name: Such as `ws_prune_ratio` or `recipe.nb_epochs`.
        values: One text per run; `-` where the run has no such setting.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far a run's metric lies from the first run's.

    Attributes:
        value: This run's minus the first run's.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def within(self) -> bool:
        """Whether the interval holds 0, so that no difference is shown."""
        return self.low <= 0.0 <= self.high


@dataclass(frozen=True, kw_only=True)
class MetricLine:
    """A number of all runs.

    Attributes:
        name: Such as `sparse accuracy (test)`.
        unit: `share` for values in [0, 1], else what stands behind a number.
        values: One per run; None where the run has none.
        intervals: 95 % interval of each value; None where it is not known.
        differences: Against the first run; None for the first run itself, where an interval is not
            known, and where the runs were not measured on the same examples.
    """

    name: str
    unit: str
    values: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...]
    differences: tuple[Difference | None, ...]


@dataclass(frozen=True, kw_only=True)
class RatioLine:
    """The prune ratios of a layer.

    Attributes:
        layer: Name of its weight.
        values: Counted share of zeros of each run, in [0, 1]; None where the run has no such layer.
    """

    layer: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        rows: The runs, in the order given.
        settings: Settings that differ.
        metrics: Metrics, costs and times.
        ratios: Layers in the order of the first run that has them.
        notes: What a reader must know, a line each.
    """

    rows: tuple[RunRow, ...]
    settings: tuple[SettingLine, ...]
    metrics: tuple[MetricLine, ...]
    ratios: tuple[RatioLine, ...]
    notes: tuple[str, ...]
