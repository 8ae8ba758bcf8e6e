"""What budgets are spent on, measured on this machine: the search's source of costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from envs import LayerRow
from ws_learner.config import Budget
from ws_learner.core import AnyPath, Inputs, LayerChoice, LayerCosts, say
from ws_learner.deploy.costs.latency import dense_latency, measure_latency
from ws_learner.deploy.costs.measure import measure_costs

__all__ = ["MeasuredCosts"]


class MeasuredCosts:
    """Measures latencies and sizes of one network.

    Args:
        model: The dense network.
        example_inputs: Of the batch size that matters.
        threads: Of the engines.
        calibration: Inputs for the ranges of bytes; the example by default.
        cache_dir: Folder of the tables; by default shared by all runs.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Inputs,
        *,
        threads: int = 1,
        calibration: Iterable[Any] | None = None,
        cache_dir: AnyPath | None = None,
    ) -> None:
        self._model, self._inputs, self._threads = model, example_inputs, threads
        self._calibration = None if calibration is None else list(calibration)
        self._cache = cache_dir

    def table(
        self, budget: Budget, layers: Sequence[LayerRow], choices: Sequence[Sequence[LayerChoice]]
    ) -> LayerCosts:
        """Costs of the choices of each layer, in the budget's unit.

        Raises:
            UserError: The engine is not installed, or cannot run the network.
        """
        table = measure_costs(
            self._model,
            self._inputs,
            layers,
            choices,
            engine=budget.engine or "wsr",
            threads=self._threads,
            cache_dir=self._cache,
            calibration=self._calibration,
        )
        return table

    def dense(self, budget: Budget) -> float:
        """Cost of the dense network that a share refers to, with a line that says of what."""
        engines = None if budget.engine is None else [budget.engine]
        found = dense_latency(self._model, self._inputs, engines=engines, threads=self._threads)
        say(f"dense network: {found.median_ms:.3g} ms per call ({found.engine}, {found.how})")
        return found.median_ms

    def measure(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> float:
        """Cost of a finished network; `choices` by parameter name."""
        found = measure_latency(
            network.eval(),
            self._inputs,
            engine=budget.engine or "wsr",
            dtype={name: choice.dtype for name, choice in choices.items()},
            threads=self._threads,
            calibration=self._calibration,
        )
        return found.median_ms
