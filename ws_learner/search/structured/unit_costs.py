"""What a network costs as a function of the units that its coupled sets keep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal, Protocol

from torch import nn

from envs import LayerRow
from ws_learner.pruning import CoupledUnits, LayerWidth, layer_widths

__all__ = ["UnitCosts", "WeightCosts", "default_levels"]

_FULL = LayerWidth(fixed=1)


class UnitCosts(Protocol):
    """Cost of one network in one unit, such as milliseconds of an engine."""

    @property
    def unit(self) -> str:
        """`params`, `macs` or `latency@ENGINE`."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the costs depend on."""

    @property
    def levels(self) -> Sequence[Sequence[int]]:
        """For each set, the ascending numbers of units that may be kept; the last is all."""

    def total(self, kept: Sequence[int]) -> float:
        """Cost of the network whose set s keeps `kept[s]` units; latency in milliseconds."""


def default_levels(units: int, *, most: int = 32) -> tuple[int, ...]:
    """About evenly spaced numbers of kept units, from one step to all."""
    step = -(-units // most)
    return (*range(step, units, step), units)


class WeightCosts:
    """Exact numbers of parameters or multiply-accumulates.

    Args:
        model: The dense network.
        sets: Its coupled units.
        unit: `params` (weights, biases, norms) or `macs` of one example.
        layers: The layer table, for the MACs.
    """

    def __init__(
        self,
        model: nn.Module,
        sets: Sequence[CoupledUnits],
        *,
        unit: Literal["params", "macs"],
        layers: Sequence[LayerRow] = (),
    ) -> None:
        self.unit = unit
        self.levels = tuple(default_levels(one.units) for one in sets)
        widths = layer_widths(model, sets)
        full = [one.units for one in sets]
        self._constant = 0.0
        self._terms: list[tuple[float, LayerWidth, LayerWidth]] = []
        if unit == "macs":
            for row in layers:
                self._add(float(row.macs), widths.get(row.name.rpartition(".")[0]), full)
        else:
            for name, parameter in model.named_parameters():
                sides = widths.get(name.rpartition(".")[0])
                if sides is not None and parameter.dim() < 2:
                    sides = (_FULL, sides[1])
                self._add(float(parameter.numel()), sides, full)
        facts = [unit, self._constant, [[c, repr(i), repr(o)] for c, i, o in self._terms]]
        self.digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _add(
        self, cost: float, sides: tuple[LayerWidth, LayerWidth] | None, full: Sequence[int]
    ) -> None:
        if sides is None:
            self._constant += cost
            return
        each = cost / (sides[0].at(full) * sides[1].at(full))
        self._terms.append((each, *sides))

    def total(self, kept: Sequence[int]) -> float:
        """See `UnitCosts`."""
        parts = (each * one.at(kept) * other.at(kept) for each, one, other in self._terms)
        return self._constant + sum(parts)
