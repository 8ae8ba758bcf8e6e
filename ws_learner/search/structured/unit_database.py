"""Errors and regressed weights of a network by the units that its coupled sets keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from envs import FloatArray, LayerRow
from ws_learner.core import Inputs, UserError, track
from ws_learner.pruning import CoupledUnits, layout_of, parameter_of, zero_units
from ws_learner.search.rollout.gram import collect_grams
from ws_learner.search.structured.unit_removal import (
    Reader,
    Removal,
    regress_columns,
    removal_order,
)

__all__ = ["UnitDatabase"]


class UnitDatabase:
    """Which units go first, what that costs in quality, and what the readers become.

    Args:
        model: The dense network.
        sets: Its coupled units.
        grams: (D, D) Gram matrix of the inputs of each layer that reads a set, by module name.
    """

    def __init__(
        self, model: nn.Module, sets: Sequence[CoupledUnits], grams: Mapping[str, Tensor]
    ) -> None:
        self.sets = tuple(sets)
        self._model, self._grams = model, dict(grams)
        self._removals: list[Removal] = []

    @classmethod
    def measure(
        cls,
        model: nn.Module,
        sets: Sequence[CoupledUnits],
        batches: Iterable[Inputs],
        *,
        seed: int = 0,
        pad_id: int | None = None,
    ) -> UnitDatabase:
        """Collect the Gram matrices of the readers in forward passes of the dense network.

        Args:
            model: The dense network.
            sets: Its coupled units.
            batches: Inputs on the model's device.
            seed: Seed of the positions that are drawn, see `collect_grams`.
            pad_id: Number that pads sentences.

        Raises:
            UserError: There is no set.
        """
        names = list(dict.fromkeys(part.layer for one in sets for part in one.readers()))
        if not names:
            raise UserError("`sets`: no coupled units that could be removed; nothing can be pruned")
        rows = [_row(model, name) for name in names]
        grams = collect_grams(model, batches, layers=rows, seed=seed, pad_id=pad_id)
        return cls(model, sets, {n: gram[0] for n, gram in zip(names, grams, strict=True)})

    def removals(self) -> Sequence[Removal]:
        """For each set the order of its units, computed on the first call."""
        if not self._removals:
            with track("coupled units", total=len(self.sets)) as progress:
                for one in self.sets:
                    readers = [self._reader(one, part.layer) for part in one.readers()]
                    self._removals.append(removal_order(readers))
                    progress.advance()
        return self._removals

    def errors(self, levels: Sequence[Sequence[int]]) -> list[FloatArray]:
        """For each set the relative error with that many units kept, summed over its readers."""
        return [
            removal.errors[one.units - np.array(own)]
            for one, own, removal in zip(self.sets, levels, self.removals(), strict=True)
        ]

    def gone(self, kept: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Units that go, by the name of the set, if set s keeps `kept[s]`."""
        return {
            one.name: tuple(sorted(removal.order[: one.units - count]))
            for one, removal, count in zip(self.sets, self.removals(), kept, strict=True)
            if count < one.units
        }

    @torch.no_grad()
    def prune(self, network: nn.Module, kept: Sequence[int]) -> list[str]:
        """Set units of `network`, a copy of the dense one, to zero, and regress what reads them.

        Returns:
            Names of the modules with other weights than before.
        """
        gone = self.gone(kept)
        changed: dict[str, list[int]] = {}
        touched = []
        for one in self.sets:
            if one.name in gone:
                touched += [part.layer for part in one.parts]
                for part in one.readers():
                    changed.setdefault(part.layer, []).extend(part.of(gone[one.name]))
        for layer, places in changed.items():
            rows, taps = self._rows(layer)
            keep = torch.ones(rows.shape[1] // taps, dtype=torch.bool)
            keep[places] = False
            solved = regress_columns(rows, self._grams[layer], keep.repeat_interleave(taps))
            self._store(network, layer, solved)
        zero_units(network, self.sets, gone)
        return list(dict.fromkeys(touched))

    def _rows(self, layer: str) -> tuple[Tensor, int]:
        """(O, D) dense weight of a reader, and its taps per input."""
        name = f"{layer}.weight"
        rows = layout_of(self._model, name).rows(parameter_of(self._model, name).detach())
        taps = rows[0, 0].numel()
        return rows.reshape(len(rows), -1), taps

    def _store(self, network: nn.Module, layer: str, rows: Tensor) -> None:
        name = f"{layer}.weight"
        weight, layout = parameter_of(network, name), layout_of(self._model, name)
        shape = layout.shape(tuple(weight.shape))
        weight.copy_(layout.stored(rows.reshape(shape), tuple(weight.shape)))

    def _reader(self, one: CoupledUnits, layer: str) -> Reader:
        part = next(p for p in one.readers() if p.layer == layer)
        rows, taps = self._rows(layer)
        places: list[list[int]] = [[] for _ in range(one.units)]
        for position, unit in zip(part.positions, part.units, strict=True):
            places[unit] += range(position * taps, (position + 1) * taps)
        return Reader(rows, self._grams[layer], torch.tensor(places))


def _row(model: nn.Module, layer: str) -> LayerRow:
    """As much of a table's row as `collect_grams` reads."""
    weight = parameter_of(model, f"{layer}.weight")
    return LayerRow(
        name=f"{layer}.weight",
        kind="",
        role="other",
        shape=tuple(weight.shape),
        weights=weight.numel(),
        macs=0,
    )
