"""Crop: physically remove unread heads and neurons from a transformer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.deploy.other_inputs import first_difference
from ws_learner.pruning import ATTENTION_WIDTHS, HEAD_COUNTS, Member, UnitGroup, find_groups

__all__ = ["Cropped", "Kept", "crop", "crop_to"]

_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is left of a group.

    Attributes:
        group: Heads or neurons, as they were.
        units: Numbers of those that stay, in order.
    """

    group: UnitGroup
    units: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Cropped:
    """A smaller network.

    Attributes:
        model: Of the same class and module names.
        kept: One entry for each group.
    """

    model: nn.Module
    kept: tuple[Kept, ...]

    @property
    def removed(self) -> int:
        """Units that are gone."""
        return sum(kept.group.units - len(kept.units) for kept in self.kept)


def crop(
    model: nn.Module,
    example: Mapping[str, Tensor] | Sequence[Tensor],
    *,
    groups: Sequence[UnitGroup] | None = None,
) -> Cropped:
    """Remove every unit whose columns are zero wherever it is read; outputs stay the same.

    At least one unit of a group stays. What is removed contributes exactly zero, so only the
    order of sums may change: the outputs in evaluation mode are compared on `example` and on inputs
    of other values and of another number of examples.

    Args:
        model: Not changed.
        example: Arguments of a forward pass, by name or in order.
        groups: By default those that are found, see `find_groups`.

    Raises:
        UserError: The smaller network does not run, or its outputs differ, because a module
            depends on its width in a way that is not known here; or outputs are NaN.
    """
    groups = find_groups(model) if groups is None else tuple(groups)
    kept = [Kept(group=group, units=_read(model, group)) for group in groups]
    slim = crop_to(model, kept)
    try:
        wanted, got = float_outputs(model, example), float_outputs(slim, example)
    except RuntimeError as error:
        raise UserError(
            f"crop: {type(model).__name__} does not run with fewer heads or neurons "
            f"({str(error).splitlines()[0]}); keep the zeros instead"
        ) from error
    for one, other in zip(wanted, got, strict=True):
        if bool(one.isnan().any()):
            raise UserError(
                f"crop: outputs of {type(model).__name__} are NaN, so that nothing can be "
                "compared; has the training diverged?"
            )
        sizes = one[one.isfinite()].abs()
        scale = max(1.0, float(sizes.max())) if sizes.numel() else 1.0
        if one.shape != other.shape or not torch.allclose(
            one, other, rtol=0, atol=_TOLERANCE * scale
        ):
            raise UserError(
                f"crop: {type(model).__name__} gives different outputs with fewer heads or "
                "neurons; keep the zeros instead, or give the correct groups"
            )
    found = first_difference(
        lambda inputs: float_outputs(model, inputs),
        lambda inputs: float_outputs(slim, inputs),
        example,
    )
    if found:
        raise UserError(
            f"crop: with fewer heads or neurons {type(model).__name__} is another network: "
            f"{found}; keep the zeros instead, or give the correct groups"
        )
    return Cropped(slim, tuple(kept))


@torch.no_grad()
def float_outputs(
    model: nn.Module, example: Mapping[str, Tensor] | Sequence[Tensor]
) -> list[Tensor]:
    """Floating-point outputs of one forward pass in evaluation mode and full precision."""
    training, precision = model.training, torch.get_float32_matmul_precision()
    model.eval()
    torch.set_float32_matmul_precision("highest")  # a caller may have allowed TF32
    result: Any = model(**example) if isinstance(example, Mapping) else model(*example)
    torch.set_float32_matmul_precision(precision)
    model.train(training)
    if isinstance(result, Tensor):
        return [result]
    values = result.values() if isinstance(result, Mapping) else result
    return [v for v in values if isinstance(v, Tensor) and v.is_floating_point()]


def _read(model: nn.Module, group: UnitGroup) -> tuple[int, ...]:
    """The units that some reader has a weight for; one at least."""
    flags = torch.zeros(group.units, dtype=torch.bool)
    for member in group.members:
        if member.axis == "inputs":
            flags |= member.any(model.get_parameter(member.weight).detach().cpu() != 0, group.units)
    if not bool(flags.any()):
        flags[0] = True
    return tuple(torch.nonzero(flags).flatten().tolist())


@torch.no_grad()
def crop_to(model: nn.Module, kept: Iterable[Kept]) -> nn.Module:
    """A copy with only the units named; it takes the weights that lie there.

    Raises:
        UserError: A weight is missing or is no weight of a Linear layer.
    """
    slim = copy.deepcopy(model)
    for entry in kept:
        group, units = entry.group, torch.tensor(entry.units)
        if len(units) == group.units:
            continue
        flags = torch.zeros(group.units, dtype=torch.bool)
        flags[units] = True
        for member in group.members:
            _slice(slim, member, flags)
        if group.kind == "heads":
            _tell_attention(slim.get_submodule(group.name), group.units, entry.units)
    return slim


def _slice(model: nn.Module, member: Member, flags: Tensor) -> None:
    try:
        layer = model.get_submodule(member.weight.rpartition(".")[0])
    except AttributeError as error:
        raise UserError(f"crop: the network has no {member.weight}") from error
    if not isinstance(layer, nn.Linear):
        raise UserError(f"crop: {member.weight} is no weight of a Linear layer")
    axis = int(member.axis == "inputs")
    stay = torch.nonzero(member.along(flags, layer.weight.shape[axis])).flatten()
    stay = stay.to(layer.weight.device)
    layer.weight = _parameter(layer.weight, axis, stay)
    if axis == 0:
        layer.out_features = len(stay)
        if layer.bias is not None:
            layer.bias = _parameter(layer.bias, 0, stay)
    else:
        layer.in_features = len(stay)


def _parameter(old: Tensor, axis: int, stay: Tensor) -> nn.Parameter:
    new = old.detach().index_select(axis, stay).contiguous()
    return nn.Parameter(new, requires_grad=old.requires_grad)


def _tell_attention(attention: nn.Module, heads: int, units: Sequence[int]) -> None:
    """Update the attention attributes about heads: their number, total width, position biases."""
    for name in HEAD_COUNTS:
        if getattr(attention, name, None) == heads:
            setattr(attention, name, len(units))
    for name in ATTENTION_WIDTHS:
        width = getattr(attention, name, None)
        if isinstance(width, int) and width % heads == 0:
            setattr(attention, name, width // heads * len(units))
    for module in attention.modules():
        for name, table in list(module._parameters.items()):
            if table is not None and name.endswith("bias_table") and table.shape[-1] == heads:
                stay = torch.tensor(units, device=table.device)
                setattr(module, name, _parameter(table, table.dim() - 1, stay))
