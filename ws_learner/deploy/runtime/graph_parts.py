"""Layers of transformers in a recorded forward pass, which become modules of their own.

The runtime replaces such a layer as a whole, and finds it as a module that holds six linear layers
and two norms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

__all__ = ["Part", "find_parts"]

_LINEAR, _NORM = torch.ops.aten.linear.default, torch.ops.aten.layer_norm.default
_LINEARS, _NORMS = 6, 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """The nodes of one module.

    Attributes:
        name: Of the module.
        nodes: In order.
        inputs: Nodes that give what it is called with.
        output: The node whose result it returns.
    """

    name: str
    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    output: fx.Node


def find_parts(nodes: Sequence[fx.Node], names: Mapping[fx.Node, str]) -> Iterator[Part]:
    """The innermost modules with six linear layers and two norms that can stand by themselves.

    Args:
        nodes: Calls of the forward pass, in order.
        names: Of the nodes that hold weights.
    """
    of: dict[str, list[int]] = {}
    for place, node in enumerate(nodes):
        stack = node.meta.get("nn_module_stack") or {}
        for path in {path for path, _ in stack.values()}:
            of.setdefault(path, []).append(place)
    found = {}
    for path, places in of.items():
        targets = [nodes[place].target for place in places]
        counts = (targets.count(_LINEAR), targets.count(_NORM))
        if counts == (_LINEARS, _NORMS) and places[-1] - places[0] + 1 == len(places):
            found[path] = tuple(nodes[place] for place in places)
    for path, own in found.items():
        inner = any(other != path and other.startswith(f"{path}.") for other in found)
        if not inner and (part := _part(path.removeprefix("model."), own, names)):
            yield part


def _part(name: str, nodes: tuple[fx.Node, ...], names: Mapping[fx.Node, str]) -> Part | None:
    """The part, if it has one result and its weights are its own."""
    inside = set(nodes)
    read = list(dict.fromkeys(one for node in nodes for one in node.all_input_nodes))
    outputs = [node for node in nodes if any(user not in inside for user in node.users)]
    weights = [one for one in read if one in names]
    own = all(
        names[one].startswith(f"{name}.") and all(user in inside for user in one.users)
        for one in weights
    )
    if len(outputs) != 1 or not own:
        return None
    inputs = tuple(one for one in read if one not in inside and one not in names)
    return Part(name=name, nodes=nodes, inputs=inputs, output=outputs[0])
