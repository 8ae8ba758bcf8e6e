"""Graph rules: operations that keep channels separate, and where channels are constant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.deploy.shrinking.consumers import outputs_first

__all__ = ["PRODUCTS", "Fixed", "kind_of", "obstacle_of"]

# Operations that treat every channel separately, by the names of their autograd nodes.
_ALONE = {
    *("Add", "Sub", "Mul", "Div", "Neg", "Clone", "ToCopy", "Mean", "Transpose", "Permute", "T"),
    *("Relu", "Hardtanh", "LeakyRelu", "Elu", "Gelu", "Silu", "Sigmoid", "Tanh", "Threshold"),
    *("Hardswish", "Hardsigmoid", "Mish", "Softplus", "Clamp", "Squeeze", "Unsqueeze", "Alias"),
    *("MaxPool1DWithIndices", "MaxPool2DWithIndices", "AvgPool1D", "AvgPool2D"),
    *("AdaptiveAvgPool1D", "AdaptiveAvgPool2D", "AdaptiveMaxPool2D", "NativeDropout"),
    *("UnsafeView", "Addmm", "Mm"),
}
_ATTENTION = {
    *("Bmm", "Softmax", "MaskedFill", "Where", "ScaledDotProductFlashAttentionForCpu"),
    *("ScaledDotProductFlashAttention", "ScaledDotProductEfficientAttention"),
    *("ScaledDotProductCudnnAttention", "ScaledDotProductFusedAttentionOverrideable"),
}
PRODUCTS = _ATTENTION - {"MaskedFill", "Where"}
_STRUCTURAL = {"RESHAPE", "CONCAT", "SPLIT", "EXPAND", "BN", "CONV", "DEPTHWISE_CONV", "LINEAR"}


def kind_of(node: Any) -> str:
    """Name of the autograd node of an operation that is no module, else empty."""
    return str(getattr(node.module, "_grad_fn", "")).split("Backward")[0]


def obstacle_of(members: Any, calls: dict[nn.Module, int], *, heads: int | None, count: int) -> str:
    """Why no channel of a set can be removed, or empty."""
    if heads is not None and count % heads:
        return f"{count} channels are no multiple of {heads} heads"
    for node, _, _, _ in members:
        kind = kind_of(node)
        allowed = _ALONE | _ATTENTION if heads else _ALONE
        if node.type.name == "ELEMENTWISE":
            if kind and kind not in allowed:
                return f"{kind} is not known to treat every channel separately"
        elif node.type.name == "OUTPUT":
            return "they are outputs of the network"
        elif node.type.name not in _STRUCTURAL:
            return f"they pass through {type(node.module).__name__}"
        if node.type.name == "CONV" and node.module.groups > 1:
            return "they pass through a grouped convolution"
        if calls.get(node.module, 1) > 1:
            return f"{type(node.module).__name__} is used more than once"
    return ""


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
