"""What a metric is: its name, its unit, and whether more of it is better."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from ws_learner.core import UserError

__all__ = ["SHARE", "Metric", "MetricMean", "MetricSpec", "as_metric"]

Metric = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> (B,) score of each example: a share in [0, 1] of which more is better. A
`MetricSpec` says otherwise."""

SHARE = "share"
"""Unit of a metric whose scores lie in [0, 1]; it is printed in percent."""

_ROUNDING = 1e-6
_PLAIN_NAMES = {"top_k_accuracy": "accuracy", "<lambda>": "score", "metric": "score"}


@dataclass(frozen=True)
class MetricSpec:
    """A metric with its name, its unit and its direction.

    Example:
        >>> def squared_error(outputs, targets):
        ...     return (outputs - targets).square().flatten(1).mean(1)
        >>> spec = MetricSpec(squared_error, name="MSE", unit="K^2", higher_is_better=False)
        >>> spec.unit, MetricSpec(squared_error, name="R").unit
        ('K^2', 'share')

    Attributes:
        function: (outputs, targets) -> (B,) score of each example.
        name: Shown in reports, such as `MSE`.
        unit: `share` for scores in [0, 1], which are printed in percent and checked; any other
            text, also an empty one, stands behind numbers of any size. By default `share` if
            higher is better, else empty.
        higher_is_better: False for an error, which is then minimised.
        of_mean: Turns the mean over all examples into the metric, and must be increasing, such as
            `math.exp` for a perplexity.

    Raises:
        UserError: The name is empty, or the function cannot be called.
    """

    function: Metric
    _: KW_ONLY
    name: str
    unit: str | None = None
    higher_is_better: bool = True
    of_mean: Callable[[float], float] | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise UserError(
                f"`metric` {self.function!r}: must be a function (outputs, targets) -> (B,)"
            )
        if not self.name.strip():
            raise UserError("`MetricSpec.name` '': must say what is measured, such as MSE")
        if self.unit is None:
            object.__setattr__(self, "unit", SHARE if self.higher_is_better else "")

    @property
    def share(self) -> bool:
        """Whether scores lie in [0, 1]."""
        return self.unit == SHARE

    @property
    def accuracy(self) -> bool:
        """Whether it is reported as an accuracy: a share of which more is better."""
        return self.share and self.higher_is_better

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B,) scores, as `function` gives them."""
        return self.function(outputs, targets)

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B,) scores in double precision.

        Raises:
            UserError: They are not one number for each example, or the function fails.
        """
        count = len(targets)
        try:
            found: Any = self.function(outputs, targets)
        except UserError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"`metric` {self.name}: fails on {count} examples, {type(error).__name__}: {error} "
                f"({place.filename}, line {place.lineno})"
            ) from error
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != (count,):
            raise UserError(
                f"`metric` {self.name}: returns {shape} for {count} examples; it must return a "
                f"score for each example, a tensor of shape ({count},): leave out the mean over "
                "the batch, and average whatever axes an example has"
            )
        return cast(Tensor, found).detach().double()

    def check(self, mean: float, *, low: float, high: float, where: str) -> float:
        """The metric of a split, from the mean, least and largest score of its examples.

        Args:
            mean: Over the examples.
            low: The least.
            high: The largest.
            where: What was measured, for errors, such as `the select split`.

        Raises:
            UserError: A score is not finite, or a share outside [0, 1].
        """
        if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(mean)):
            raise UserError(
                f"`metric` {self.name}: is NaN or infinite for an example of {where}; "
                "mend the metric, or the network that gave the outputs"
            )
        if self.share and not -_ROUNDING <= low <= high <= 1 + _ROUNDING:
            wrong = low if low < -_ROUNDING else high
            raise UserError(
                f"`metric` {self.name}: {wrong:.6g} for an example of {where}, but the scores "
                "of a plain function, or of a share, must lie in [0, 1]; give metric=MetricSpec("
                'function, name=..., unit="", higher_is_better=...) with False for an error'
            )
        try:
            value = mean if self.of_mean is None else self.of_mean(mean)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise UserError(
                f"`metric` {self.name}: is {value} on {where}, where the mean of its scores is "
                f"{mean:.6g}; mend `of_mean`, or the network that gave the outputs"
            )
        return value


def as_metric(metric: Metric) -> MetricSpec:
    """The metric as it is, or a plain function as a share of which more is better."""
    return metric if isinstance(metric, MetricSpec) else MetricSpec(metric, name=_name_of(metric))


class MetricMean:
    """Metric of a split, added up batch by batch without waiting for a GPU."""

    def __init__(self, metric: Metric) -> None:
        self._metric, self.examples = as_metric(metric), 0
        self._parts: list[Tensor] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch of outputs.

        Raises:
            UserError: The metric does not return one number for each example.
        """
        scores = self._metric.scores(outputs, targets)
        if len(scores):
            self._parts.append(torch.stack([scores.sum(), scores.min(), scores.max()]))
            self.examples += len(scores)

    def value(self, where: str) -> float:
        """The metric; `where` names what was measured, for errors.

        Raises:
            UserError: There was no example, or a score is out of range.
        """
        if not self._parts:
            raise UserError(f"{where} holds no examples, so there is nothing to measure")
        parts = torch.stack(self._parts).cpu()
        total, low, high = parts[:, 0].sum(), parts[:, 1].min(), parts[:, 2].max()
        return self._metric.check(
            float(total) / self.examples, low=float(low), high=float(high), where=where
        )


def _name_of(function: Any) -> str:
    """What a plain function is called in reports."""
    if isinstance(function, partial):
        best = function.keywords.get("k", 1)
        own = _name_of(function.func)
        return f"top-{best} accuracy" if own == "accuracy" and best != 1 else own
    name = str(getattr(function, "__name__", type(function).__name__))
    return _PLAIN_NAMES.get(name, name.replace("_", " ").strip())
