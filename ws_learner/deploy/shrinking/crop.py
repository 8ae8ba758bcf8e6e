"""Crop: physically remove unread heads and neurons from a transformer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError, say
from ws_learner.deploy.copies import copy_of, evaluating
from ws_learner.deploy.other_inputs import copied_inputs, first_difference, most_difference
from ws_learner.deploy.runtime.output_comparison import tensors_of
from ws_learner.pruning import ATTENTION_WIDTHS, HEAD_COUNTS, Member, UnitGroup, find_groups

__all__ = ["Cropped", "Kept", "crop", "crop_to"]

_TOLERANCE = 1e-5
_TOLERANCES = {torch.float64: 1e-9, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_COMPUTED = (
    "a weight is computed at each call (weight norm, spectral norm or a mask); make it permanent "
    "first, by torch.nn.utils.parametrize.remove_parametrizations or the norm's own remove function"
)
_Example = Mapping[str, Tensor] | Sequence[Tensor]


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
        obstacles: Groups that stay whole because the network needs them so, and why.
    """

    model: nn.Module
    kept: tuple[Kept, ...]
    obstacles: tuple[str, ...] = ()

    @property
    def removed(self) -> int:
        """Units that are gone."""
        return sum(kept.group.units - len(kept.units) for kept in self.kept)


def crop(
    model: nn.Module,
    example: _Example | Tensor,
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

    Returns:
        The smaller network. Groups that it needs whole, because a module depends on its width in a
            way that is not known here, stay and are named in `obstacles` and in a printed line.

    Raises:
        UserError: No group could be cropped for that reason, the network does not run on the
            example, its outputs are NaN, or they differ on other inputs only.
    """
    example = (example,) if isinstance(example, Tensor) else example
    wanted = _wanted(model, example)
    groups = find_groups(model) if groups is None else tuple(groups)
    computed = {group for group in groups if _is_computed(model, group)}
    kept = [_all(group) if group in computed else _kept(model, group) for group in groups]
    obstacles = [f"{group.name}: {_COMPUTED}" for group in groups if group in computed]
    slim, fault = _tried(model, kept, wanted, example)
    if fault:
        kept, others = _one_by_one(model, kept, wanted, example)
        obstacles += others
        if all(len(entry.units) == entry.group.units for entry in kept):
            remedy = "keep the zeros instead, or give the correct groups"
            raise UserError(f"crop: {type(model).__name__} {fault}; {remedy}")
        slim, _ = _tried(model, kept, wanted, example)
    assert slim is not None
    for obstacle in obstacles:
        say(f"crop: heads or neurons stay: {obstacle}")
    found = first_difference(
        lambda inputs: float_outputs(model, inputs),
        lambda inputs: float_outputs(slim, inputs),
        example,
        most=most_difference(model),
    )
    if found:
        raise UserError(
            f"crop: with fewer heads or neurons {type(model).__name__} is another network: "
            f"{found}; keep the zeros instead, or give the correct groups"
        )
    return Cropped(slim, tuple(kept), tuple(obstacles))


def _wanted(model: nn.Module, example: _Example) -> list[Tensor]:
    try:
        wanted = float_outputs(model, example)
    except Exception as error:  # whatever a forward pass raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"crop: {type(model).__name__} does not run on the example ({reason}); give it as the "
            "network takes it: a tensor, several in a tuple, or keywords in a dict"
        ) from error
    if any(bool(one.isnan().any()) for one in wanted):
        raise UserError(
            f"crop: outputs of {type(model).__name__} are NaN, so that nothing can be "
            "compared; has the training diverged?"
        )
    return wanted


def _tried(
    model: nn.Module, kept: Sequence[Kept], wanted: Sequence[Tensor], example: _Example
) -> tuple[nn.Module | None, str | None]:
    """The smaller network, and what is wrong with it on the example."""
    try:
        slim = crop_to(model, kept)
        got = float_outputs(slim, example)
    except UserError:
        raise
    except Exception as error:  # whatever a forward pass raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None, f"does not run with fewer heads or neurons ({reason})"
    for one, other in zip(wanted, got, strict=True):
        sizes = one[one.isfinite()].abs()
        scale = max(1.0, float(sizes.max())) if sizes.numel() else 1.0
        most = _TOLERANCES.get(one.dtype, _TOLERANCE) * scale
        if one.shape != other.shape or not torch.allclose(one, other, rtol=0, atol=most):
            return None, "gives different outputs with fewer heads or neurons"
    return slim, None


def _one_by_one(
    model: nn.Module, kept: Sequence[Kept], wanted: Sequence[Tensor], example: _Example
) -> tuple[list[Kept], list[str]]:
    """Crop the groups that can be cropped, and say of the others why they stay whole."""
    whole = [_all(entry.group) for entry in kept]
    obstacles = []
    for place, entry in enumerate(kept):
        if len(entry.units) == entry.group.units:
            continue
        _, fault = _tried(model, [*whole[:place], entry, *whole[place + 1 :]], wanted, example)
        if fault:
            obstacles.append(f"{entry.group.name}: the network {fault}")
        else:
            whole[place] = entry
    return whole, obstacles


@torch.no_grad()
def float_outputs(model: nn.Module, example: _Example) -> list[Tensor]:
    """Floating-point outputs of one forward pass in evaluation mode and full precision.

    They are taken out of tuples, lists, mappings and dataclasses; complex ones become pairs.
    """
    given, precision = copied_inputs(example), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # a caller may have allowed TF32
    try:
        with evaluating(model):
            result: Any = model(**given) if isinstance(given, Mapping) else model(*given)
    finally:
        torch.set_float32_matmul_precision(precision)
    return list(tensors_of(result))


def _is_computed(model: nn.Module, group: UnitGroup) -> bool:
    """Whether a weight is no parameter but computed at each call."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    layers = dict(model.named_modules())
    return any(
        member.weight not in parameters and member.weight.rpartition(".")[0] in layers
        for member in group.members
    )


def _all(group: UnitGroup) -> Kept:
    return Kept(group=group, units=tuple(range(group.units)))


def _kept(model: nn.Module, group: UnitGroup) -> Kept:
    return Kept(group=group, units=_read(model, group))


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
    slim = copy_of(model)
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
