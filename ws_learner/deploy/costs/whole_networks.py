"""Measurements of whole networks that a table of costs is fitted to."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ws_learner.core import Inputs, LayerChoice, NumberFormat, forward_digest, say
from ws_learner.deploy.costs.cache import TimesFile
from ws_learner.deploy.costs.cold_calls import ColdCall, least_times
from ws_learner.deploy.costs.formats import Formats, layer_of
from ws_learner.deploy.costs.latency import measure_together
from ws_learner.deploy.costs.machine import digest_of
from ws_learner.deploy.costs.network_runs import network_run
from ws_learner.deploy.costs.random_zeros import layer_pattern, random_weight
from ws_learner.deploy.costs.specimens import Specimen
from ws_learner.deploy.costs.table import CostTable
from ws_learner.deploy.costs.timing import clock_for, time_runs
from ws_learner.deploy.onnx.export import values_of

__all__ = ["DenseNetwork", "WholeNetworks"]

_REPEATS = 9
_FLOAT = 4  # bytes


@dataclass(frozen=True, kw_only=True)
class DenseNetwork:
    """The network without zeros.

    Attributes:
        ms: Milliseconds per call.
        layers_ms: Of PyTorch's layers in it, by signature, for `wsr`.
    """

    ms: float
    layers_ms: Mapping[str, float]


class WholeNetworks:
    """Runs the network with zeros of our own, and keeps what was measured."""

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        *,
        table: CostTable,
        specimens: Mapping[str, Specimen],
        file: TimesFile,
        calibration: Iterable[Any] | None,
    ) -> None:
        """Prepare; see `measure_costs` for the arguments."""
        self._model, self._inputs, self._table = model, inputs, table
        self._specimens, self._file = specimens, file
        self._calibration = None if calibration is None else list(calibration)

    def dense(self) -> DenseNetwork:
        """Measure the network, and PyTorch's layers in turn with it."""

        def measure() -> dict[str, Any]:
            say("costs: measuring the whole network, dense")
            return self._measure_dense()

        return DenseNetwork(**self._kept("dense", (), measure))

    def ratio(self, point: Sequence[LayerChoice], dtype: NumberFormat) -> float | None:
        """Time of the network with these zeros, in parts of the dense one's.

        None if the engine kept the dense network, which tells nothing about the layers.
        """

        def measure() -> float | None:
            say(f"costs: measuring the whole network, {dtype} with zeros")
            networks: dict[str, Any] = {
                "dense": (self._with(()), "fp32"),
                "sparse": (self._with(point), self._formats(point)),
            }
            found = measure_together(
                networks,
                self._inputs,
                engine=self._table.engine,
                threads=self._table.threads,
                calibration=self._calibration,
            )
            if found["sparse"].how == "dense":
                return None
            return found["sparse"].median_ms / found["dense"].median_ms

        kept: float | None = self._kept(dtype, point, measure)
        return kept

    def _measure_dense(self) -> dict[str, Any]:
        table = self._table
        network = network_run(
            self._with(()),
            self._inputs,
            engine=table.engine,
            formats=Formats.read("fp32"),
            threads=table.threads,
            calibration=None,
        ).run
        clocks = {"": clock_for(network, threads=table.threads)}
        whole: list[float] = []
        layers: dict[str, list[float]] = {
            name: [] for name, own in self._specimens.items() if table.times[name].base is not None
        }
        for _ in range(_REPEATS):
            timing = time_runs({"": network}, threads=table.threads, rounds=3, clocks=clocks)
            whole.append(timing[""].median_ms)
            for name, own in layers.items():
                own.append(self._layer_ms(self._specimens[name]) / whole[-1])
        ms = statistics.median(whole)
        return {
            "ms": ms,
            "layers_ms": {name: ms * statistics.median(own) for name, own in layers.items()},
        }

    @torch.no_grad()
    def _layer_ms(self, specimen: Specimen) -> float:
        site, x = specimen.site, specimen.sample
        assert site is not None
        size = _FLOAT * specimen.network_weights
        call = ColdCall(run=lambda: site.dense(x), bytes_before=size)
        return least_times({"": call}, x, threads=self._table.threads)[""]

    def _with(self, point: Sequence[LayerChoice]) -> nn.Module:
        """A copy with random weights; with none of `point` they are dense."""
        twin = copy.deepcopy(self._model)
        for place, row in enumerate(self._table.layers):
            choice = point[place] if point else LayerChoice(pattern="unstructured", zeros=0)
            weight = twin.get_parameter(row.name)
            if row.calls and (choice.zeros or not weight.all()):
                pattern, shape = layer_pattern(choice.pattern), tuple(weight.shape)
                with torch.no_grad():
                    weight.copy_(random_weight(shape, pattern, choice.zeros))
        return twin

    def _formats(self, point: Sequence[LayerChoice]) -> NumberFormat | dict[str, NumberFormat]:
        named = {
            layer_of(row.name): choice.dtype
            for row, choice in zip(self._table.layers, point, strict=True)
        }
        kinds = set(named.values())
        return kinds.pop() if len(kinds) == 1 else named

    def _kept(self, name: str, point: Sequence[LayerChoice], measure: Callable[[], Any]) -> Any:
        """What the cache holds for this network, or what `measure` gives."""
        facts = {
            "layers": [[row.name, row.weights, dict(row.calls)] for row in self._table.layers],
            "inputs": [list(x.shape) for x in values_of(self._inputs)],
            "model": forward_digest(self._model),
            "point": [[c.pattern, c.zeros, c.dtype] for c in point],
        }
        key = f"network {name} {digest_of(facts)[:16]}"
        if key not in self._file.entries:
            self._file.keep(key, measure())
        return self._file.entries[key]
