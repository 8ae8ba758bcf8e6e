"""Coupled units: channels, neurons and heads that can only be removed together, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ws_learner.core import UserError, check_settings
from ws_learner.pruning.layers.weight_kinds import layout_of

__all__ = ["CoupledUnits", "LayerWidth", "UnitPart", "layer_widths", "zero_units"]


@dataclass(frozen=True, kw_only=True)
class UnitPart:
    """Where the units of a set lie in one layer.

    Attributes:
        layer: Name of the module, e.g. `layer1.0.conv1`.
        side: `outputs`: the layer makes them, `inputs`: it reads them, `through`: a batch norm or a
            depthwise convolution has one entry for each.
        positions: (P,) entries along that side.
        units: (P,) the unit that each one belongs to.
    """

    layer: str
    side: Literal["outputs", "inputs", "through"]
    positions: tuple[int, ...]
    units: tuple[int, ...]

    def __post_init__(self) -> None:
        check_settings(self)

    def of(self, gone: Iterable[int]) -> list[int]:
        """Positions of some units."""
        wanted = set(gone)
        return [p for p, unit in zip(self.positions, self.units, strict=True) if unit in wanted]


@dataclass(frozen=True, kw_only=True)
class CoupledUnits:
    """Units that lie in several layers; one of them goes from all, or stays in all.

    Attributes:
        name: The first layer that makes them.
        kind: `stream`: channels of a residual stream, tied by additions; `channels` of
            convolutions between two layers; `neurons` between linear layers; `heads`.
        units: How many.
        parts: Where they lie.
    """

    name: str
    kind: Literal["stream", "channels", "neurons", "heads"]
    units: int
    parts: tuple[UnitPart, ...]

    def __post_init__(self) -> None:
        check_settings(self)

    def readers(self) -> tuple[UnitPart, ...]:
        """The parts that read the units."""
        return tuple(part for part in self.parts if part.side == "inputs")


@dataclass(frozen=True, kw_only=True)
class LayerWidth:
    """Width of one side of a layer as a function of the units that are kept.

    Attributes:
        fixed: Entries in no set.
        shares: For each set with entries here: its place in the sequence, and entries per unit.
    """

    fixed: int
    shares: tuple[tuple[int, int], ...] = ()

    def at(self, kept: Sequence[int]) -> int:
        """Entries left where set s keeps `kept[s]` units."""
        return self.fixed + sum(each * int(kept[place]) for place, each in self.shares)


def layer_widths(
    model: nn.Module, sets: Sequence[CoupledUnits]
) -> dict[str, tuple[LayerWidth, LayerWidth]]:
    """Widths of the inputs and outputs of every layer that a set lies in.

    A batch norm or a depthwise convolution has its channels as outputs, and no inputs.

    Args:
        model: The network.
        sets: Their order is that of `kept` in `LayerWidth.at`.

    Raises:
        UserError: Two sets share an entry, or a set's units are of different size somewhere.
    """
    shares: dict[tuple[str, int], list[tuple[int, int]]] = {}
    taken: dict[tuple[str, int], set[int]] = {}
    for place, one in enumerate(sets):
        for part in one.parts:
            side = (part.layer, int(part.side != "inputs"))
            each, rest = divmod(len(part.positions), one.units)
            if rest or taken.setdefault(side, set()) & set(part.positions):
                raise UserError(
                    f"`sets`: units of {one.name} do not divide {part.layer}, or another set has "
                    "the same entries; give the sets as `find_coupled_units` finds them"
                )
            taken[side] |= set(part.positions)
            shares.setdefault(side, []).append((place, each))
    found = {}
    for layer in dict.fromkeys(name for name, _ in shares):
        inputs, outputs = _widths(model, layer)
        sides = []
        for number, width in ((0, inputs), (1, outputs)):
            free = width - len(taken.get((layer, number), ()))
            sides.append(LayerWidth(fixed=free, shares=tuple(shares.get((layer, number), ()))))
        found[layer] = (sides[0], sides[1])
    return found


def _widths(model: nn.Module, layer: str) -> tuple[int, int]:
    """Inputs and outputs of a layer; one input where each output has its own."""
    module = model.get_submodule(layer)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return 1, int(getattr(module, "num_features", 0))
    if weight.dim() < 2:
        return 1, len(weight)
    shape = layout_of(model, f"{layer}.weight").shape(tuple(weight.shape))
    return shape[1], shape[0]


@torch.no_grad()
def zero_units(
    model: nn.Module, sets: Sequence[CoupledUnits], gone: Mapping[str, Sequence[int]]
) -> None:
    """Set the weights that make and read some units to zero, and what norms have for them.

    `shrink` then removes them: nothing reads them any more.

    Args:
        model: Changed in place.
        sets: The sets.
        gone: Numbers of the units that go, by the name of the set.

    Raises:
        UserError: A name or number does not exist.
    """
    known = {one.name: one for one in sets}
    for name, units in gone.items():
        if name not in known or any(not 0 <= unit < known[name].units for unit in units):
            allowed = f"0 to {known[name].units - 1}" if name in known else ", ".join(known)
            raise UserError(f"`gone` {name}: {list(units)[:3]}: must be among {allowed}")
        for part in known[name].parts:
            places = part.of(units)
            if places:
                _zero(model, part, torch.tensor(places))


def _zero(model: nn.Module, part: UnitPart, places: Tensor) -> None:
    module = model.get_submodule(part.layer)
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if isinstance(weight, Tensor):
        places = places.to(weight.device)
        if part.side == "inputs" or weight.dim() > 1:
            layout = layout_of(model, f"{part.layer}.weight")
            rows = layout.rows(weight).clone()
            if part.side == "inputs":
                rows[:, places] = 0
            else:
                rows[places] = 0
            weight.copy_(layout.stored(rows, tuple(weight.shape)))
        else:
            weight[places] = 0
    if part.side != "inputs" and isinstance(bias, Tensor):
        bias[places] = 0
