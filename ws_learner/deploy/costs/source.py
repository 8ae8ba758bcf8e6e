"""What budgets are spent on, measured on this machine: the search's source of costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from envs import LayerRow
from ws_learner.config import Budget
from ws_learner.core import AnyPath, Inputs, LayerChoice, LayerCosts, UserError, as_path, say
from ws_learner.data import cache_folder
from ws_learner.deploy.costs.bytes_costs import BytesCosts, network_bytes
from ws_learner.deploy.costs.engine_layers import EngineUnitCosts, engine_unit_costs
from ws_learner.deploy.costs.engines import check_engine
from ws_learner.deploy.costs.latency import Pace, dense_paces, fastest, measure_latency
from ws_learner.deploy.costs.measure import measure_costs
from ws_learner.deploy.costs.random_zeros import layer_pattern
from ws_learner.deploy.onnx.export import export_onnx
from ws_learner.deploy.runtime.compile import compile_sparse
from ws_learner.deploy.shrinking.find_units import find_coupled_units
from ws_learner.deploy.shrinking.shrink import shrink
from ws_learner.pruning import CoupledUnits

__all__ = ["MeasuredCosts"]


class MeasuredCosts:
    """Measures latencies and sizes of one network.

    Args:
        model: The dense network.
        example_inputs: Of the batch size that matters.
        threads: Of the engines.
        calibration: Inputs for the ranges of bytes; the example by default.
        cache_dir: Folder of the tables; by default shared by all runs.
        pair: Inputs of two examples or more, by which the graph is read; the example by default.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Inputs,
        *,
        threads: int = 1,
        calibration: Iterable[Any] | None = None,
        cache_dir: AnyPath | None = None,
        pair: Inputs | None = None,
    ) -> None:
        self._model, self._inputs, self._threads = model, example_inputs, threads
        self._pair = example_inputs if pair is None else pair
        self._calibration = None if calibration is None else list(calibration)
        self._cache = None if cache_dir is None else as_path(cache_dir, name="cache_dir")
        self._paces: dict[str, Pace] = {}

    def check(self, budgets: Sequence[Budget], *, patterns: Sequence[str]) -> None:
        """Refuse budgets of engines that are missing, and patterns that no engine can time.

        Raises:
            UserError: There is one.
        """
        for budget in budgets:
            if budget.kind != "latency":
                continue
            try:
                check_engine(budget.engine or "wsr")
            except UserError as error:
                why = str(error).partition(": ")[2]
                raise UserError(f"`ws_budget` {budget}: {why}") from None
            for pattern in patterns if budget.unit == "latency@wsr" else ():
                try:
                    layer_pattern(pattern)
                except UserError as error:
                    raise UserError(f"`ws_pattern` {str(error).partition(' ')[2]}") from None

    def table(
        self, budget: Budget, layers: Sequence[LayerRow], choices: Sequence[Sequence[LayerChoice]]
    ) -> LayerCosts:
        """Costs of the choices of each layer, in the budget's unit.

        Raises:
            UserError: The engine is not installed, or cannot run the network.
        """
        if budget.kind == "bytes":
            return BytesCosts(self._model, layers)
        return measure_costs(
            self._model,
            self._inputs,
            layers,
            choices,
            engine=budget.engine or "wsr",
            threads=self._threads,
            cache_dir=self._cache,
            calibration=self._calibration,
        )

    def dense(self, budget: Budget) -> float:
        """Cost of the dense network that a share refers to, with a line that says of what."""
        if budget.kind == "bytes":
            return float(network_bytes(self._model))
        engines = None if budget.engine is None else [budget.engine]
        paces = dense_paces(self._model, self._inputs, engines=engines, threads=self._threads)
        self._paces |= paces
        found = fastest(paces).latency
        say(f"dense network: {found.median_ms:.3g} ms per call ({found.engine}, {found.how})")
        return found.median_ms

    def pace(self, budget: Budget, *, earlier: float | None = None) -> float | None:
        """Milliseconds of the dense network in the engine that measures; None for other units.

        All that is measured later is told at this pace of the machine.

        Args:
            budget: Names the engine.
            earlier: The pace of an earlier call on the same run and machine.
        """
        if budget.kind != "latency":
            return None
        engine = budget.engine or "wsr"
        if engine not in self._paces:
            self._paces |= dense_paces(
                self._model, self._inputs, engines=[engine], threads=self._threads
            )
        if earlier is not None:
            found = self._paces[engine]
            told = replace(found.latency, median_ms=earlier)
            self._paces[engine] = replace(found, latency=told)
        return self._paces[engine].latency.median_ms

    def coupled_units(self, *, says: bool = True) -> Sequence[CoupledUnits]:
        """Units of the network that can be removed together; a line for each layer that stays.

        Raises:
            UserError: The network cannot be traced.
        """
        found = find_coupled_units(self._model, self._pair)
        for one in found.refused if says else ():
            say(f"units of {one.layer} stay: {one.reason}")
        return found.sets

    def unit_costs(self, budget: Budget, sets: Sequence[CoupledUnits]) -> EngineUnitCosts:
        """Milliseconds by the numbers of units that the sets keep.

        Raises:
            UserError: The engine is not installed, or cannot run the network.
        """
        return engine_unit_costs(
            self._model,
            self._inputs,
            sets,
            engine=budget.engine or "onnxruntime",
            threads=self._threads,
            measure=lambda network: self.measure(budget, network, {}),
            cache_dir=self._cache or cache_folder() / "latency",
        )

    def _bytes(self, network: nn.Module) -> float:
        """Size of the exported network, without its zero units."""
        slim = shrink(network.eval(), self._pair).model
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(slim, self._inputs, path)
            return float(sum(file.stat().st_size for file in Path(folder).iterdir()))

    def compiled(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> nn.Module:
        """The network as our runtime runs it, with each layer in its number format."""
        fast: nn.Module = compile_sparse(
            network.eval(),
            self._inputs,
            dtype={name: choice.dtype for name, choice in choices.items()},
            calibration=self._calibration or [self._inputs],
            threads=self._threads,
        )
        return fast

    def measure(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> float:
        """Cost of a finished network; `choices` by parameter name.

        Without choices whole units are zero, and are removed before it is measured.
        """
        if budget.kind == "bytes":
            formats = {name: choice.dtype for name, choice in choices.items()}
            return float(network_bytes(network, formats)) if choices else self._bytes(network)
        if not choices:
            network = shrink(network.eval(), self._pair).model
        found = measure_latency(
            network.eval(),
            self._inputs,
            engine=budget.engine or "wsr",
            dtype={name: choice.dtype for name, choice in choices.items()},
            threads=self._threads,
            calibration=self._calibration,
            pace=self._paces.get(budget.engine or "wsr"),
        )
        return found.median_ms
