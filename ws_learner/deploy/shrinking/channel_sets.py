"""Sets of channels that can only be removed together, and their dead channels."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.deploy.shrinking.consumers import Consumer
from ws_learner.deploy.shrinking.graph_rules import PRODUCTS, Fixed, kind_of, obstacle_of
from ws_learner.pruning import HEAD_COUNTS

__all__ = ["ChannelSet", "Consumer", "call_model", "find_channel_sets", "number_of_heads"]


@dataclass(eq=False)
class ChannelSet:
    """One set of C channels, numbered as the first layer that makes them numbers its outputs.

    Attributes:
        name: That layer.
        count: C.
        unit: Channels that go together: the width of a head, else 1.
        attention: The module that holds q, k, v and o, if the set is its heads.
        obstacle: Why no channel of this set can be removed, or empty.
        readers: Layers that take the channels in.
    """

    name: str
    count: int
    unit: int
    attention: nn.Module | None
    obstacle: str
    readers: list[Consumer]
    model: nn.Module
    arguments: Any
    group: Any
    _constants: list[tuple[Tensor, Tensor]] | None = field(default=None, init=False)

    def dead(self) -> Tensor:
        """(C,) bool: nothing reads the channel, or it does not depend on the data."""
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
        self.group.prune(channels)

    def _all(self, flags: Any) -> Tensor:
        """(C,) bool: true for every column of every reader; false where there is no reader."""
        result = torch.full((self.count,), bool(self.readers))
        for reader, columns in zip(self.readers, flags, strict=True):
            result[reader.roots[~columns]] = False
        return result

    def _measure(self) -> list[tuple[Tensor, Tensor]]:
        if not bool(self.dead().any()):
            none = [
                (torch.zeros(len(r.columns)), torch.zeros(len(r.columns))) for r in self.readers
            ]
            return [(value, constant.bool()) for value, constant in none]
        seen: dict[int, Tensor] = {}
        with torch.no_grad(), ExitStack() as hooks:
            for number, reader in enumerate(self.readers):

                def keep(module: nn.Module, args: tuple[Tensor, ...], number: int = number) -> None:
                    seen[number] = args[0]

                hooks.callback(reader.layer.register_forward_pre_hook(keep).remove)
            call_model(self.model, self.arguments)
        return [_constant(seen[n], reader) for n, reader in enumerate(self.readers)]


def _constant(inputs: Tensor, reader: Consumer) -> tuple[Tensor, Tensor]:
    rows = inputs.flatten(0, -2).T if isinstance(reader.layer, nn.Linear) else None
    if rows is None:
        rows = inputs.transpose(0, 1).flatten(1)
    rows = rows[reader.columns]
    least, most = rows.amin(1), rows.amax(1)
    # Vectorised and scalar code may differ in the last bit between positions.
    same = (most - least) <= 1e-6 * most.abs().clamp(min=1.0)
    return rows.mean(1).where(least != most, least), same & reader.fixed[reader.roots]


def call_model(model: nn.Module, arguments: Any) -> Any:
    """One forward pass."""
    return model(**arguments) if isinstance(arguments, dict) else model(*arguments)


def number_of_heads(module: nn.Module) -> int | None:
    """The number of heads, under one of its usual names."""
    found = [getattr(module, name, None) for name in HEAD_COUNTS]
    return next((value for value in found if isinstance(value, int)), None)


def find_channel_sets(model: nn.Module, arguments: Any) -> Iterator[ChannelSet]:
    """Find the sets one after the other; each may be pruned before the next is asked for.

    Raises:
        UserError: The package torch-pruning is not installed.
    """
    try:
        tp = importlib.import_module("torch_pruning")
    except ImportError as error:
        raise UserError(
            "shrinking needs the package torch-pruning: pip install -e '.[shrink]'"
        ) from error
    graph = tp.DependencyGraph()
    with torch.enable_grad():
        graph.build_dependency(model, arguments, verbose=False)
    names = {module: name for name, module in model.named_modules()}
    calls = _calls(model, arguments)
    for group in graph.get_all_groups():
        yield _coupled(group, model=model, arguments=arguments, names=names, calls=calls)


def _calls(model: nn.Module, arguments: Any) -> dict[nn.Module, int]:
    """How often each module is used in one forward pass."""
    calls: dict[nn.Module, int] = {}

    def count(module: nn.Module, *_: Any) -> None:
        calls[module] = calls.get(module, 0) + 1

    with torch.no_grad(), ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_hook(count).remove)
        call_model(model, arguments)
    return calls


def _coupled(
    group: Any, *, model: nn.Module, arguments: Any, names: Any, calls: dict[nn.Module, int]
) -> ChannelSet:
    count = len(group[0].idxs)
    members = [(item.dep.target, _reads(item), item.idxs, item.root_idxs) for item in group]
    attention = _attention(members, model, names)
    heads = number_of_heads(attention) if attention is not None else None
    obstacle = obstacle_of(members, calls, heads=heads, count=count)
    nodes = {node for node, _, _, _ in members}
    fixed = Fixed(members, count)
    readers = [
        Consumer(node.module, torch.tensor(idxs), torch.tensor(roots), fixed.arriving(node, nodes))
        for node, reads, idxs, roots in members
        if reads and node.type.name in {"CONV", "LINEAR"}
    ]
    return ChannelSet(
        name=names[group[0].dep.target.module],
        count=count,
        unit=count // heads if heads and not obstacle else 1,
        attention=attention,
        obstacle=obstacle,
        readers=readers,
        model=model,
        arguments=arguments,
        group=group,
    )


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
