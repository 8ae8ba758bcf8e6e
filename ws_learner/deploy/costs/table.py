"""Milliseconds of each layer's choices: a table, measured once on one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ws_learner.core import AnyPath, LayerChoice, UserError, as_path, read_json, write_json
from ws_learner.deploy.costs.layer_times import LayerTimes
from ws_learner.deploy.costs.machine import digest_of, say_other_machine

__all__ = ["CostTable", "MeasuredLayer"]

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class MeasuredLayer:
    """A layer of the table.

    Attributes:
        name: Of its weight.
        weights: How many there are.
        calls: How often one forward pass computes which signature; empty where no engine could
            make the layer faster, so that its time is part of the overhead.
    """

    name: str
    weights: int
    calls: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class CostTable:
    """Implements `LayerCosts` for the latency of one engine, in milliseconds per call.

    A network is predicted as `overhead` and the sum of its layers' costs. Costs are those of the
    layers by themselves, times `scale`, the share of it that shows within the network.

    Attributes:
        engine: That was measured.
        machine: See `machine_key`.
        versions: Of the libraries that its speed depends on.
        threads: That it used.
        layers: In forward order.
        times: By signature.
        floor: Milliseconds of an empty call; no layer costs less.
        overhead: Milliseconds of what no layer of the table has.
        scale: By format, what a layer's own time is multiplied by.
        dense_ms: The whole dense network, measured.
    """

    engine: str
    machine: str
    versions: Mapping[str, str]
    threads: int
    layers: tuple[MeasuredLayer, ...]
    times: Mapping[str, LayerTimes]
    floor: float
    overhead: float = 0.0
    scale: Mapping[str, float] = field(default_factory=lambda: {"fp32": 1.0, "int8": 1.0})
    dense_ms: float | None = None

    @property
    def unit(self) -> str:
        """See `LayerCosts`."""
        return f"latency@{self.engine}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of machine, versions and all numbers."""
        return digest_of(self.plain())

    def cost(self, layer: int, choice: LayerChoice) -> float:
        """Milliseconds of a layer in this network; see `LayerCosts`.

        Raises:
            UserError: The choice's format or pattern was not measured, or it has more zeros than
                the layer has weights.
        """
        row = self.layers[layer]
        density = choice.density(row.weights, layer=row.name)
        own = sum(n * self._own(row, key, density, choice) for key, n in row.calls.items())
        return max(own * self.scale[choice.dtype], self.floor)

    def predict(self, choices: Sequence[LayerChoice]) -> float:
        """Milliseconds of the network with one choice for each layer.

        `wsr` keeps the dense network if that is faster.
        """
        total = self.overhead + sum(self.cost(i, choice) for i, choice in enumerate(choices))
        if self.engine != "wsr" or self.dense_ms is None:
            return total
        return min(total, self.dense_ms)

    def _own(self, row: MeasuredLayer, key: str, density: float, choice: LayerChoice) -> float:
        times = self.times[key]
        if choice.dtype not in times.dense:
            known = ", ".join(times.dense)
            raise UserError(f"`dtype` {choice.dtype}: {row.name} was measured in {known} only")
        name = f"{choice.pattern} {choice.dtype}"
        if choice.zeros and times.sparse and name not in times.sparse:
            raise UserError(
                f"`pattern` {choice.pattern}: {row.name} was measured with "
                f"{', '.join(times.sparse)} only; measure again with these choices"
            )
        return max(times.at(density, choice.pattern, choice.dtype), self.floor)

    def plain(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        layers = [
            {"name": row.name, "weights": row.weights, "calls": dict(row.calls)}
            for row in self.layers
        ]
        return {
            "version": _VERSION,
            "engine": self.engine,
            "machine": self.machine,
            "versions": dict(self.versions),
            "threads": self.threads,
            "layers": layers,
            "times": {name: own.plain() for name, own in self.times.items()},
            "floor": self.floor,
            "overhead": self.overhead,
            "scale": dict(self.scale),
            "dense_ms": self.dense_ms,
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> CostTable:
        """The counterpart of `plain`; says so if it was measured on another machine.

        Raises:
            UserError: Something is missing, or it is of another version.
        """
        if plain.get("version") != _VERSION:
            raise UserError("cost table: of another version; measure again with measure_costs")
        try:
            layers = tuple(
                MeasuredLayer(name=row["name"], weights=row["weights"], calls=row["calls"])
                for row in plain["layers"]
            )
            times = {name: LayerTimes.read(own) for name, own in plain["times"].items()}
            rest = {name: plain[name] for name in _AS_THEY_ARE}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"cost table: damaged ({type(error).__name__} {error}); measure again with "
                "measure_costs"
            ) from error
        table = cls(layers=layers, times=times, **rest)
        say_other_machine(table.machine, what=f"costs of {table.unit}")
        return table

    def save(self, path: AnyPath) -> None:
        """Write the table as JSON."""
        write_json(as_path(path), self.plain())

    @classmethod
    def load(cls, path: AnyPath) -> CostTable:
        """Read a saved table; see `read`."""
        path = as_path(path)
        try:
            plain = read_json(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot read it as a cost table: {error}") from error
        if not isinstance(plain, dict):
            raise UserError(f"{path}: holds no cost table")
        return cls.read(plain)


_AS_THEY_ARE = (
    *("engine", "machine", "versions", "threads", "floor", "overhead", "scale", "dense_ms"),
)
