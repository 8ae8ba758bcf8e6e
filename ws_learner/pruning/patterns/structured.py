"""Structured masking: keep or prune whole heads and neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ws_learner.core import UserError, check_settings

__all__ = ["Member", "Rule", "UnitGroup", "kept_units", "resolve"]

Rule = Literal["any", "all"]
"""any: a unit stays if any member keeps a part of it (NNCF). all: only if every member does, but
for the output projection of heads, which has no say (nn_pruning)."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A weight (O, I) that has a slice for each unit of a group.

    Attributes:
        weight: Parameter name.
        axis: `outputs`: the unit's rows are made here; `inputs`: its columns are read here.
        parts: Projections stacked along the outputs, 3 for a fused q, k and v.
    """

    weight: str
    axis: Literal["outputs", "inputs"]
    parts: int = 1

    def __post_init__(self) -> None:
        check_settings(self)

    def rows(self, length: int, units: int) -> tuple[int, int, int]:
        """How the entries along the axis are laid out: (parts, units, width of a unit).

        Raises:
            UserError: The units do not divide them.
        """
        if length % (self.parts * units):
            raise UserError(
                f"{self.weight}: {units} units do not divide its {length} {self.axis}; mend the "
                "group, or leave the layer out"
            )
        return self.parts, units, length // self.parts // units

    def any(self, mask: Tensor, units: int) -> Tensor:
        """(units,) bool: whether anything of a unit is True in `mask` (O, I), or (O,) a bias."""
        along = mask if self.axis == "outputs" else mask.T
        flags = along.reshape(*self.rows(along.shape[0], units), -1)
        return flags.any(3).any(2).any(0)

    def mean(self, values: Tensor, units: int) -> Tensor:
        """(units,) mean of `values` (O, I) over each unit."""
        along = values if self.axis == "outputs" else values.T
        return along.reshape(*self.rows(along.shape[0], units), -1).mean((0, 2, 3))

    def along(self, keep: Tensor, length: int) -> Tensor:
        """(length,) the units' flags at all places along the axis."""
        parts, units, width = self.rows(length, len(keep))
        return keep[None, :, None].expand(parts, units, width).reshape(-1)


@dataclass(frozen=True, kw_only=True)
class UnitGroup:
    """Heads of an attention, or hidden neurons of a feed-forward network.

    Attributes:
        name: Module that holds them, e.g. `encoder.layer.0.attention.self`.
        kind: What a unit is.
        units: How many there are.
        members: The weights that have a slice of each.
    """

    name: str
    kind: Literal["heads", "neurons"]
    units: int
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        check_settings(self)


def kept_units(
    group: UnitGroup,
    masks: Mapping[str, Tensor],
    *,
    biases: Mapping[str, str],
    rule: Rule = "any",
    scores: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """(units,) bool: which units of a group stay.

    A member that makes the unit keeps it by a bias as well (rule `any`), unless its whole weight
    is pruned. If no unit were left, the one of the largest mean score stays: an attention needs
    at least one head.

    Args:
        group: The group.
        masks: Masks of weights and biases, True = kept.
        biases: Weight -> its bias, for those biases that have a mask.
        rule: See `Rule`.
        scores: Of single weights, for the last unit; by default the share that is kept.
    """
    flags = []
    for member in group.members:
        mask = masks[member.weight]
        kept = member.any(mask, group.units)
        bias = biases.get(member.weight)
        if rule == "any" and member.axis == "outputs" and bias is not None and bool(mask.any()):
            kept = kept | member.any(masks[bias], group.units)
        if rule == "any" or group.kind == "neurons" or member.axis == "outputs":
            flags.append(kept)
    stacked = torch.stack(flags)
    keep = stacked.any(0) if rule == "any" else stacked.all(0)
    if not bool(keep.any()):
        values = scores or {m.weight: masks[m.weight].float() for m in group.members}
        means = [m.mean(values[m.weight].float(), group.units) for m in group.members]
        keep[int(torch.stack(means).mean(0).argmax())] = True
    return keep


def resolve(
    groups: Sequence[UnitGroup],
    masks: Mapping[str, Tensor],
    *,
    biases: Mapping[str, str],
    rule: Rule = "any",
    scores: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The masks with whole units of the groups; a kept unit is filled, nothing in it is pruned.

    A weight in two groups (read in one, made in the other) gets the product. A bias stays where
    its row keeps anything. Layers in no group keep their masks.

    Raises:
        UserError: A member has no mask, or units do not divide a weight.
    """
    made: dict[str, Tensor] = {}
    for group in groups:
        lacking = [m.weight for m in group.members if m.weight not in masks]
        if lacking:
            raise UserError(
                f"structured masking: {group.name} has {lacking[0]}, which is not sparsified, so "
                f"its {group.kind} cannot go as a whole; sparsify all of "
                f"{', '.join(m.weight for m in group.members)}, or leave all of them out"
            )
        keep = kept_units(group, masks, biases=biases, rule=rule, scores=scores)
        for member in group.members:
            mask = made.setdefault(member.weight, torch.ones_like(masks[member.weight]))
            if member.axis == "outputs":
                mask &= member.along(keep, mask.shape[0])[:, None]
            else:
                mask &= member.along(keep, mask.shape[1])
    for weight, bias in biases.items():
        if weight in made:
            made[bias] = made[weight].any(1)
    return dict(masks) | made
