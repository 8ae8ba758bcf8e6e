"""Find unit groups of a transformer: attention heads and feed-forward neurons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from ws_learner.core import UserError
from ws_learner.pruning.layers.attention_heads import find_attention
from ws_learner.pruning.layers.unresolved_groups import refuse_unresolved
from ws_learner.pruning.patterns.pattern import ChannelPattern, HeadPattern, Pattern
from ws_learner.pruning.patterns.structured import Member, UnitGroup

__all__ = [
    "Member",
    "UnitGroup",
    "check_groups",
    "find_groups",
    "pattern_conflict",
    "unit_patterns",
]

_PAIRS = (
    ("intermediate.dense", "output.dense"),  # BERT, RoBERTa, ELECTRA
    ("intermediate_dense", "output_dense"),  # Wav2Vec2, HuBERT, WavLM
    ("fc1", "fc2"),  # ViT, Swin, CLIP, timm
    ("lin1", "lin2"),  # DistilBERT
    ("linear1", "linear2"),  # PyTorch's own encoder layer
    ("intermediate", "output"),
    ("dense1", "dense2"),
)


def find_groups(model: nn.Module) -> tuple[UnitGroup, ...]:
    """Heads and neurons of the network, by the roles that modules have, in module order.

    What computes the attention (eager, SDPA, flash) makes no difference: projections are known by
    their names and shapes, heads by the number that their module states.
    """
    heads = tuple(
        UnitGroup(
            name=found.name,
            kind="heads",
            units=next(iter(found.patterns.values())).heads,
            members=tuple(
                Member(weight=name, axis=pattern.axis, parts=pattern.parts)
                for name, pattern in found.patterns.items()
            ),
        )
        for found in find_attention(model)
    )
    taken = {member.weight for group in heads for member in group.members}
    neurons = []
    for name, module in model.named_modules():
        group = _feed_forward(name, module)
        if group and not any(member.weight in taken for member in group.members):
            taken |= {member.weight for member in group.members}
            neurons.append(group)
    return heads + tuple(neurons)


def _feed_forward(name: str, module: nn.Module) -> UnitGroup | None:
    inside = dict(module.named_modules())
    for first, second in _PAIRS:
        made, read = inside.get(first), inside.get(second)
        if not isinstance(made, nn.Linear) or not isinstance(read, nn.Linear):
            continue
        if made.out_features == read.in_features:
            prefix = f"{name}." if name else ""
            return UnitGroup(
                name=name,
                kind="neurons",
                units=made.out_features,
                members=(
                    Member(weight=f"{prefix}{first}.weight", axis="outputs"),
                    Member(weight=f"{prefix}{second}.weight", axis="inputs"),
                ),
            )
    return None


def check_groups(
    model: nn.Module, groups: Iterable[UnitGroup], layers: Iterable[str]
) -> tuple[UnitGroup, ...]:
    """The groups with all members sparsified.

    Args:
        model: The network.
        groups: Found or given by the user.
        layers: Names of the weights that are sparsified.

    Raises:
        UserError: There is none; a group is sparsified in part; units do not divide a weight; or
            attentions or feed-forward networks are sparsified that are in no group.
    """
    layers = tuple(layers)
    chosen, names = [], set(layers)
    for group in groups:
        inside = [member.weight for member in group.members if member.weight in names]
        if not inside:
            continue
        if missing := [m.weight for m in group.members if m.weight not in names]:
            raise UserError(
                f"structured masking: {group.kind} of {group.name}: {inside[0]} is sparsified, "
                f"{missing[0]} is not, so none of the {group.kind} could go as a whole; sparsify "
                "both or neither"
            )
        for member in group.members:
            shape = model.get_parameter(member.weight).shape
            member.rows(shape[member.axis == "inputs"], group.units)
        chosen.append(group)
    if not chosen:
        raise UserError(
            f"structured masking: no supported model is detected: {type(model).__name__} has no "
            "attention heads or feed-forward neurons among the sparsified layers that could be "
            "found by their names (BERT, RoBERTa, DistilBERT, ViT, Swin, Wav2Vec2 and others "
            "named alike); give the groups yourself, or set enable_structured_masking to false"
        )
    refuse_unresolved(model, chosen, layers)
    return tuple(chosen)


def unit_patterns(
    model: nn.Module, layers: Iterable[str]
) -> tuple[dict[str, Pattern], tuple[tuple[str, ...], ...]]:
    """Pattern of each layer under `units`, and which layers share their pruned units.

    Raises:
        UserError: A layer has no units, or not all that share its units are among the layers.
    """
    layers = tuple(layers)
    groups = check_groups(model, find_groups(model), layers)
    found: dict[str, Pattern] = {}
    for group in groups:
        for member in group.members:
            if member.weight in found:
                raise UserError(f"`pattern` units: {member.weight} is in two groups of units")
            heads = HeadPattern(group.units, member.axis, parts=member.parts)
            found[member.weight] = heads if group.kind == "heads" else ChannelPattern(member.axis)
    if strangers := [name for name in layers if name not in found]:
        raise UserError(
            f"`pattern` units: {strangers[0]} has neither heads nor neurons that could be "
            "found; leave it out with `exclude`"
        )
    shared = tuple(tuple(member.weight for member in group.members) for group in groups)
    return {name: found[name] for name in layers}, shared


def pattern_conflict(group: UnitGroup, axes: Mapping[str, int]) -> str:
    """Why a group is incompatible with per-dimension scores, or empty.

    Args:
        group: The group.
        axes: Weight -> axis of its per-dimension scores, 0 = rows.
    """
    for member in group.members:
        wanted = 0 if member.axis == "outputs" else 1
        if axes.get(member.weight, wanted) != wanted:
            return (
                f"{member.weight} has scores by axis {axes[member.weight]}, but {group.kind} of "
                f"{group.name} lie along axis {wanted} there; set axis to {wanted}, or use blocks"
            )
    return ""
