"""Channels of a set that do not depend on the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.deploy.shrinking.consumers import outputs_first
from ws_learner.deploy.shrinking.graph_rules import kind_of

__all__ = ["Fixed"]


class Fixed:
    """Channels of a set that do not depend on the data, at any point of the graph."""

    def __init__(self, members: Any, count: int) -> None:
        self._count = count
        self._zero: dict[Any, Tensor] = {}
        self._makers: set[Any] = set()
        for node, reads, idxs, roots in members:
            depthwise = node.type.name == "DEPTHWISE_CONV"
            if depthwise or (node.type.name in {"CONV", "LINEAR"} and not reads):
                self._zero[node] = self._zero_rows(node.module, idxs, roots)
                if not depthwise:
                    self._makers.add(node)
        self._known: dict[Any, Tensor] = {}

    def arriving(self, node: Any, nodes: set[Any]) -> Tensor:
        """(C,) bool for the input of `node`."""
        found = [self._leaving(source, nodes) for source in node.inputs if source in nodes]
        result = torch.full((self._count,), bool(found))
        for flags in found:
            result &= flags
        return result

    def _leaving(self, node: Any, nodes: set[Any]) -> Tensor:
        if node not in self._known:
            if node in self._makers:
                self._known[node] = self._zero[node]
            else:
                flags = self._from_inputs(node, nodes)
                self._known[node] = flags | self._zero[node] if node in self._zero else flags
        return self._known[node]

    def _from_inputs(self, node: Any, nodes: set[Any]) -> Tensor:
        # An input outside the set is another branch of a concatenation, or a reader's own weight.
        result = torch.ones(self._count, dtype=torch.bool)
        for source in node.inputs:
            if source in nodes and kind_of(source) != "T":
                result = result & self._leaving(source, nodes)
        return result

    def _zero_rows(self, layer: nn.Module, idxs: list[int], roots: list[int]) -> Tensor:
        """(C,) bool: every row that makes the channel is zero."""
        zero = outputs_first(layer)[idxs].flatten(1).eq(0).all(1)
        result = torch.ones(self._count, dtype=torch.bool)
        result[torch.tensor(roots)[~zero]] = False
        return result
