"""Find the coupled sets of units that `shrink` can remove from a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.deploy.copies import copy_of, unwrapped
from ws_learner.deploy.shrinking.channel_sets import ChannelSet, find_channel_sets
from ws_learner.deploy.shrinking.report import Obstacle, obstacle
from ws_learner.deploy.shrinking.shrink import shrink
from ws_learner.pruning import CoupledUnits, HeadPattern, UnitPart, find_attention, zero_units

__all__ = ["FoundUnits", "find_coupled_units"]

_UNEVEN = "its units are of different size in some layer"
_UNREAD = "no layer reads them"
_GATE = "it is not known which of its channels meet in a gate"
_WHOLE = "a unit set to zero could not be removed"


@dataclass(frozen=True)
class FoundUnits:
    """The sets of a network.

    Attributes:
        sets: Those whose units `shrink` removes, in the order of the graph.
        refused: The other layers that make channels, and why these have to stay.
    """

    sets: tuple[CoupledUnits, ...]
    refused: tuple[Obstacle, ...]


def find_coupled_units(
    model: nn.Module, example: Tensor | Sequence[Any] | Mapping[str, Any]
) -> FoundUnits:
    """Find which channels, neurons and heads of a network go together, by its graph.

    Couplings are those of `shrink`: additions of a residual stream, flattening, concatenation,
    depthwise convolutions, gates, heads (DepGraph, Fang et al., CVPR 2023). Every set is tried:
    one unit of each is set to zero in a copy, which then is shrunk. Sets that stay whole are
    refused, such as the outputs of the network, or channels that meet a layer norm.

    Args:
        model: Not changed.
        example: One input, several in a sequence, or keyword arguments.

    Raises:
        UserError: The package torch-pruning is not installed, or the network does not run on the
            example.
    """
    work = copy_of(model).eval()
    network, prefix = unwrapped(work)
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    arguments = _arguments(example)
    names = {module: name for name, module in network.named_modules()}
    fused = _fused_heads(network)
    hidden = {part.layer for one in fused for part in one.parts if part.side == "outputs"}
    sets, refused = list(fused), []
    try:
        for channels in find_channel_sets(network, [arguments]):
            if channels.name in hidden:
                continue
            found = _described(channels, names)
            if isinstance(found, str):
                refused.append(obstacle(channels.name, found))
            else:
                sets.append(found)
    except UserError:
        raise
    except Exception as error:  # whatever a network raises that cannot be traced
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"`example`: {type(network).__name__} cannot be traced on it ({reason}); give it as "
            "the network takes it: a tensor, several in a tuple, or keywords in a dict"
        ) from error
    kept, stuck = _tried(network, sets, example)
    return FoundUnits(
        tuple(_with_prefix(one, prefix) for one in kept),
        tuple(obstacle(f"{prefix}{o.layer}", o.reason) for o in [*refused, *stuck]),
    )


def _arguments(example: Any) -> Any:
    if isinstance(example, Mapping):
        return dict(example)
    return (example,) if isinstance(example, Tensor) else tuple(example)


def _described(channels: ChannelSet, names: Mapping[nn.Module, str]) -> CoupledUnits | str:
    """The set, or why it is none."""
    if channels.obstacle:
        return channels.obstacle
    if not channels.readers:
        return _UNREAD
    base = {c: channels.partners.get(c, c) for c in range(channels.count)}
    if any(value is None for value in base.values()):
        return _GATE
    numbers = {c: int(value or 0) // channels.unit for c, value in base.items()}
    places = {number: unit for unit, number in enumerate(sorted(set(numbers.values())))}
    entries: dict[tuple[str, str], dict[int, int]] = {}
    for item in channels.group:
        layer, side = names.get(item.dep.target.module), _side(item)
        if not layer or not side:
            continue
        here = entries.setdefault((layer, side), {})
        for position, root in zip(item.idxs, item.root_idxs, strict=True):
            here[int(position)] = places[numbers[int(root)]]
    parts = tuple(
        UnitPart(
            layer=layer,
            side=side,  # type: ignore[arg-type]
            positions=tuple(sorted(here)),
            units=tuple(here[p] for p in sorted(here)),
        )
        for (layer, side), here in entries.items()
    )
    if any(_uneven(part, len(places)) for part in parts):
        return _UNEVEN
    kind = _kind(channels, parts)
    return CoupledUnits(name=channels.name, kind=kind, units=len(places), parts=parts)


def _uneven(part: UnitPart, units: int) -> bool:
    counts = torch.bincount(torch.tensor(part.units), minlength=units)
    return int(counts.min()) != int(counts.max())


def _side(item: Any) -> str:
    """Which side of a layer an item of a group is; empty for operations without entries."""
    node = item.dep.target
    if node.type.name == "DEPTHWISE_CONV":
        return "through"
    if node.type.name in {"CONV", "LINEAR"}:
        return "inputs" if "prune_in_channels" in item.dep.handler.__name__ else "outputs"
    module = node.module
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return "through" if any(tensor.dim() for tensor in tensors) else ""


def _kind(
    channels: ChannelSet, parts: Sequence[UnitPart]
) -> Literal["stream", "channels", "neurons", "heads"]:
    if channels.attention is not None:
        return "heads"
    if sum(part.side == "outputs" for part in parts) > 1:
        return "stream"
    convolution = any(isinstance(layer, nn.modules.conv._ConvNd) for layer in channels.layers())
    return "channels" if convolution else "neurons"


def _fused_heads(network: nn.Module) -> list[CoupledUnits]:
    """Heads of attentions whose q, k and v are one layer; the graph does not follow these."""
    try:
        found = find_attention(network)
    except UserError:  # heads that share keys
        return []
    sets = []
    for attention in found:
        patterns = attention.patterns
        if next(iter(patterns.values())).parts != 3 or len(patterns) != 2:
            continue
        parts = tuple(_of_head(network, name, heads) for name, heads in patterns.items())
        heads = next(iter(patterns.values())).heads
        if len(parts) == 2 and not any(_uneven(part, heads) for part in parts):
            sets.append(CoupledUnits(name=parts[0].layer, kind="heads", units=heads, parts=parts))
    return sets


def _of_head(network: nn.Module, name: str, pattern: HeadPattern) -> UnitPart:
    side: Literal["outputs", "inputs"] = pattern.axis
    weight = network.get_parameter(name)
    length = weight.shape[0 if side == "outputs" else 1]
    width = length // pattern.parts // pattern.heads
    units = [place // width % pattern.heads for place in range(length)]
    return UnitPart(
        layer=name.removesuffix(".weight"),
        side=side,
        positions=tuple(range(length)),
        units=tuple(units),
    )


def _tried(
    network: nn.Module, sets: Sequence[CoupledUnits], example: Any
) -> tuple[list[CoupledUnits], list[Obstacle]]:
    """The sets that lose a unit when it is zero, and why the others do not."""
    open_ = [one for one in sets if one.units > 1]
    stuck = [obstacle(one.name, "there is one unit only") for one in sets if one.units == 1]
    if not open_:
        return [], stuck
    trial = copy_of(network)
    zero_units(trial, open_, {one.name: [one.units - 1] for one in open_})
    shrunk = shrink(trial, example)
    reasons = {o.layer: o.reason for o in shrunk.obstacles}
    kept = []
    for one in open_:
        part = one.readers()[0]
        name = f"{part.layer}.weight"
        before, after = shrunk.original.get(name), shrunk.model.state_dict().get(name)
        if before is not None and after is not None and tuple(after.shape) != before:
            kept.append(one)
        else:
            stuck.append(obstacle(one.name, reasons.get(one.name, _WHOLE)))
    return kept, stuck


def _with_prefix(one: CoupledUnits, prefix: str) -> CoupledUnits:
    if not prefix:
        return one
    parts = tuple(
        UnitPart(
            layer=f"{prefix}{part.layer}",
            side=part.side,
            positions=part.positions,
            units=part.units,
        )
        for part in one.parts
    )
    return CoupledUnits(name=f"{prefix}{one.name}", kind=one.kind, units=one.units, parts=parts)
