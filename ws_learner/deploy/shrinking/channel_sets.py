"""Sets of channels that can only be removed together, and their dead channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.deploy.shrinking.consumers import Consumer, outputs_first
from ws_learner.deploy.shrinking.fixed_channels import Fixed
from ws_learner.deploy.shrinking.graph_rules import OUTPUTS, PRODUCTS, kind_of, obstacle_of
from ws_learner.deploy.shrinking.tracing import all_groups, call_model, count_calls, trace
from ws_learner.pruning import HEAD_COUNTS

__all__ = ["ChannelSet", "Consumer", "find_channel_sets", "number_of_heads"]

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(eq=False)
class ChannelSet:
    """One set of C channels, numbered as the first layer that makes them numbers its outputs.

    Attributes:
        name: That layer.
        count: C.
        unit: Channels that go together: the width of a head, else 1.
        attention: The module that holds q, k, v and o, if the set is its heads.
        obstacle: Why no channel of this set can be removed, or empty.
        hopeful: There is an obstacle, and without it channels might go.
        readers: Layers that take the channels in; none where there is an obstacle.
        partners: For channels that no reader sees by themselves, the one that each is joined with,
            as the halves of a gate are; None if that is not known.
        examples: Arguments of forward passes.
    """

    name: str
    count: int
    unit: int = 1
    attention: nn.Module | None = None
    obstacle: str = ""
    hopeful: bool = False
    readers: list[Consumer] = field(default_factory=list)
    partners: dict[int, int | None] = field(default_factory=dict)
    model: nn.Module = field(default_factory=nn.Module)
    examples: Sequence[Any] = ()
    group: Any = None
    _constants: list[tuple[Tensor, Tensor]] | None = field(default=None, init=False)

    def layers(self) -> list[nn.Module]:
        """The modules that make, change or read the channels."""
        found = [item.dep.target.module for item in self.group or ()]
        return [module for module in found if isinstance(module, nn.Module)]

    def weights(self) -> list[nn.Parameter]:
        """Their parameters."""
        return [p for layer in self.layers() for p in layer.parameters(recurse=False)]

    def dead(self) -> Tensor:
        """(C,) bool: nothing reads the channel, or it does not depend on the data."""
        if self.obstacle:
            return torch.full((self.count,), self.hopeful)
        return self._all(reader.unread() | reader.fixed[reader.roots] for reader in self.readers)

    def removable(self) -> Tensor:
        """(C,) bool: unread, or a constant that a bias can stand for."""
        flags = []
        for reader, (value, constant) in zip(self.readers, self.constants(), strict=True):
            foldable = constant & ((value == 0) | (not reader.pads))
            flags.append(reader.unread() | foldable)
        return self._all(flags)

    def mergeable(self) -> Tensor:
        """(C,) bool: unread or constant at every reader; such channels can stand for another."""
        pairs = zip(self.readers, self.constants(), strict=True)
        return self._all(reader.unread() | constant for reader, (_, constant) in pairs)

    def constants(self) -> list[tuple[Tensor, Tensor]]:
        """For each reader: (K,) value that arrives, (K,) bool whether it is a constant at all."""
        if self._constants is None:
            self._constants = self._measure()
        return self._constants

    def prune(self, channels: list[int]) -> None:
        """Take channels out of every tensor that has them."""
        gone = set(channels)
        for item in self.group:
            module = item.dep.target.module
            # Torch-Pruning leaves these out.
            if isinstance(module, nn.modules.instancenorm._InstanceNorm):
                at = {i for i, root in zip(item.idxs, item.root_idxs, strict=True) if root in gone}
                stay = [i for i in range(module.num_features) if i not in at]
                for name in ("running_mean", "running_var"):
                    if module._buffers.get(name) is not None:
                        module._buffers[name] = module._buffers[name][stay]  # type: ignore[index]
        self.group.prune(channels)

    def _all(self, flags: Any) -> Tensor:
        """(C,) bool: true for every column of every reader; false where there is no reader."""
        result = torch.full((self.count,), bool(self.readers))
        for reader, columns in zip(self.readers, flags, strict=True):
            result[reader.roots[~columns]] = False
        for channel, partner in self.partners.items():
            result[channel] = bool(result[partner]) if partner is not None else False
        return result

    def _measure(self) -> list[tuple[Tensor, Tensor]]:
        if not bool(self.dead().any()):
            none = [
                (torch.zeros(len(r.columns)), torch.zeros(len(r.columns))) for r in self.readers
            ]
            return [(value, constant.bool()) for value, constant in none]
        found = [self._look(arguments) for arguments in self.examples]
        joined = []
        for places in zip(*found, strict=True):
            value, constant = places[0]
            for other, also in places[1:]:
                constant = constant & also & _alike(value, other)
            joined.append((value, constant))
        return joined

    def _look(self, arguments: Any) -> list[tuple[Tensor, Tensor]]:
        seen: dict[int, Tensor] = {}
        with torch.no_grad(), ExitStack() as hooks:
            for number, reader in enumerate(self.readers):

                def keep(_: nn.Module, args: Any, words: Any, number: int = number) -> None:
                    seen[number] = (args[0] if args else words["input"]).detach().clone()

                held = reader.layer.register_forward_pre_hook(keep, with_kwargs=True)
                hooks.callback(held.remove)
            call_model(self.model, arguments)
        return [_constant(seen[n], reader) for n, reader in enumerate(self.readers)]


def _constant(inputs: Tensor, reader: Consumer) -> tuple[Tensor, Tensor]:
    if isinstance(reader.layer, nn.Linear):
        rows = inputs.reshape(-1, inputs.shape[-1]).T
    else:
        alone = inputs.dim() == reader.layer.weight.dim() - 1  # no batch
        rows = (inputs[None] if alone else inputs).transpose(0, 1).flatten(1)
    rows = rows[reader.columns]
    if rows.is_complex():
        return rows[:, 0], torch.zeros(len(rows), dtype=torch.bool)
    least, most = rows.amin(1), rows.amax(1)
    value = rows.mean(1).where(least != most, least)
    return value, _alike(least, most) & reader.fixed[reader.roots]


def _alike(a: Tensor, b: Tensor) -> Tensor:
    # Vectorised and scalar code may differ in the last bit between positions.
    return (a - b).abs() <= 1e-6 * torch.maximum(a.abs(), b.abs()).clamp(min=1.0)


def number_of_heads(module: nn.Module) -> int | None:
    """The number of heads, under one of its usual names."""
    found = [getattr(module, name, None) for name in HEAD_COUNTS]
    return next((value for value in found if isinstance(value, int)), None)


def find_channel_sets(model: nn.Module, examples: Sequence[Any]) -> Iterator[ChannelSet]:
    """Find the sets one after the other; each may be pruned before the next is asked for.

    Args:
        model: In evaluation mode.
        examples: Arguments of forward passes; the first are traced, constants are the same for all.

    Raises:
        UserError: The package torch-pruning is not installed.
        Exception: Whatever a network raises that cannot be traced.
    """
    graph, into = trace(model, examples[0])
    names = {module: name for name, module in model.named_modules()}
    calls = count_calls(model, examples[0])
    shared = _shared(model)
    for layer, group in all_groups(graph):
        try:
            if isinstance(group, Exception):
                raise group
            found = _coupled(group, model=model, names=names, calls=calls, into=into)
        except Exception:  # of channels that the graph mixes up
            found = ChannelSet(names[layer], len(outputs_first(layer)))
            found.obstacle = "the graph around them cannot be followed"
        if not found.obstacle and (shared & {id(p) for p in found.weights()}):
            found.obstacle = "a weight is used by several layers"
        if found.obstacle:
            makers = (
                [layer]
                if isinstance(group, Exception)
                else [item.dep.target.module for item in group if not _reads(item)]
            )
            found.hopeful = found.obstacle != OUTPUTS and any(map(_has_zero_rows, makers))
        found.examples = examples
        yield found
    for layer in calls:
        if isinstance(layer, _LAYERS) and layer not in graph.module2node:
            yield ChannelSet(
                names[layer],
                len(outputs_first(layer)),
                obstacle="what it makes is detached from the outputs (by detach, no_grad or NumPy)",
                hopeful=_has_zero_rows(layer),
            )


def _has_zero_rows(layer: nn.Module) -> bool:
    known = isinstance(layer, _LAYERS) and isinstance(getattr(layer, "weight", None), Tensor)
    return known and bool(outputs_first(layer).flatten(1).eq(0).all(1).any())


def _shared(model: nn.Module) -> set[int]:
    """Parameters that several modules hold."""
    seen: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                seen[id(parameter)] = seen.get(id(parameter), 0) + 1
    return {key for key, times in seen.items() if times > 1}


def _coupled(
    group: Any, *, model: nn.Module, names: Any, calls: dict[nn.Module, int], into: Any
) -> ChannelSet:
    count = len(group[0].idxs)
    members = [(item.dep.target, _reads(item), item.idxs, item.root_idxs) for item in group]
    attention = _attention(members, model, names)
    heads = number_of_heads(attention) if attention is not None else None
    found = ChannelSet(
        names[group[0].dep.target.module], count, attention=attention, model=model, group=group
    )
    found.obstacle = obstacle_of(members, calls, heads=heads, count=count, into=into)
    if found.obstacle:
        return found
    nodes = {node for node, _, _, _ in members}
    fixed = Fixed(members, count)
    reading = [m for m in members if m[1] and m[0].type.name in {"CONV", "LINEAR"}]
    found.partners = _partners(group, reading, count)
    for node, _, idxs, roots in reading:
        flags = fixed.arriving(node, nodes)
        for channel, partner in found.partners.items():
            if partner is not None:
                flags[partner] &= flags[channel]
        found.readers.append(Consumer(node.module, torch.tensor(idxs), torch.tensor(roots), flags))
    found.unit = count // heads if heads else 1
    return found


def _partners(group: Any, reading: Any, count: int) -> dict[int, int | None]:
    """See `ChannelSet`. Torch-Pruning names one channel of those that meet at a reader."""
    lost = set(range(count)).difference(*(roots for _, _, _, roots in reading))
    if not lost or not reading:
        return {}
    first = {(n, i): r for n, _, idxs, roots in reading for i, r in zip(idxs, roots, strict=True)}
    dep = group[0].dep
    found: dict[int, int | None] = dict.fromkeys(lost)
    for item in group._DG.get_pruning_group(dep.target.module, dep.handler, sorted(lost)):
        if _reads(item):
            for index, root in zip(item.idxs, item.root_idxs, strict=True):
                found[root] = first.get((item.dep.target, index), found[root])
    return found


def _reads(item: Any) -> bool:
    return "prune_in_channels" in item.dep.handler.__name__


def _attention(members: Any, model: nn.Module, names: Any) -> nn.Module | None:
    """The module around q, k and v, if the set passes through a product of activations."""
    if not any(kind_of(node) in PRODUCTS for node, _, _, _ in members):
        return None
    makers = [
        names[node.module]
        for node, reads, _, _ in members
        if node.type.name == "LINEAR" and not reads
    ]
    parents = {name.rpartition(".")[0] for name in makers}
    return model.get_submodule(parents.pop()) if len(parents) == 1 else None
