"""Graph rules: operations that keep channels separate."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["OUTPUTS", "PRODUCTS", "is_unknown", "kind_of", "obstacle_of"]

# Operations that treat every channel separately, by the names of their autograd nodes.
_ALONE = {
    *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Clone", "ToCopy", "Squeeze", "Unsqueeze"),
    *("Alias", "Transpose", "Permute", "T", "UnsafeView", "Addmm", "Mm", "Mean", "NativeDropout"),
    *("Relu", "Hardtanh", "LeakyRelu", "Elu", "Gelu", "Silu", "Sigmoid", "Tanh", "Threshold"),
    *("Hardswish", "Hardsigmoid", "Mish", "Softplus", "Clamp"),
    *("MaxPool1DWithIndices", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AvgPool1D"),
    *("AvgPool2D", "AvgPool3D", "AdaptiveAvgPool1D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D"),
    *("AdaptiveMaxPool2D", "ConstantPadNd"),
    *(f"{kind}Pad{dims}D" for kind in ("Reflection", "Replication") for dims in (1, 2, 3)),
    *("UpsampleLinear1D", "UpsampleBilinear2D", "UpsampleTrilinear3D", "UpsampleBicubic2D"),
    *(f"UpsampleNearest{dims}D" for dims in (1, 2, 3)),
    *(f"UpsampleNearestExact{dims}D" for dims in (1, 2, 3)),
    *("UpsampleBilinear2DAa", "UpsampleBicubic2DAa"),
}
_ATTENTION = {
    *("Bmm", "Softmax", "MaskedFill", "Where", "ScaledDotProductFlashAttentionForCpu"),
    *("ScaledDotProductFlashAttention", "ScaledDotProductEfficientAttention"),
    *("ScaledDotProductCudnnAttention", "ScaledDotProductFusedAttentionOverrideable"),
}
PRODUCTS = _ATTENTION - {"MaskedFill", "Where"}
_STRUCTURAL = {
    *("RESHAPE", "CONCAT", "SPLIT", "EXPAND", "BN", "IN", "PRELU", "CONV", "DEPTHWISE_CONV"),
    "LINEAR",
}
_BY_WEIGHT = "they are multiplied by a weight outside of its layer"
OUTPUTS = "they are outputs of the network"
_WORDS = {"SLICE": "a slice", "UNBIND": "unbind", "EMBED": "an embedding"}
_COMPUTED = "{} has a weight that is computed at each call (weight norm, spectral norm or a mask)"


def kind_of(node: Any) -> str:
    """Name of the autograd node of an operation that is no module, else empty."""
    return str(getattr(node.module, "_grad_fn", "")).split("Backward")[0]


def is_unknown(node: Any, *, attention: bool) -> bool:
    """Whether it is not known what becomes of channels in an operation.

    `attention`: products of activations are known, since some module has heads.
    """
    if node.type.name in {"UNBIND", "PARAMETER"} or _joins_inputs(node):
        return True
    kind = kind_of(node)
    if node.type.name != "ELEMENTWISE" or not kind:
        return False
    if kind in {"Addmm", "Mm"}:
        return not _is_part_of_a_layer(node)
    return kind not in (_ALONE | _ATTENTION if attention else _ALONE)


def _joins_inputs(node: Any) -> bool:
    """A concatenation with something that has no gradient, whose width is not seen."""
    sources = getattr(node.grad_fn, "next_functions", ())
    return node.type.name == "CONCAT" and any(source is None for source, _ in sources)


def _is_part_of_a_layer(node: Any) -> bool:
    """Whether a product with a weight is the inside of a linear layer, whose output is a view."""
    read = _leaves(node.grad_fn, depth=2)
    layers = [part.module for part in node.outputs if isinstance(part.module, nn.Module)]
    weights = {id(weight) for layer in layers for weight in layer.parameters(recurse=False)}
    return bool(weights & read)


def _leaves(function: Any, *, depth: int) -> set[int]:
    """The parameters that an autograd node reads directly, or through a transposition."""
    found = set()
    for source, _ in getattr(function, "next_functions", ()):
        if source is None:
            continue
        variable = getattr(source, "variable", None)
        if variable is not None:
            found.add(id(variable))
        elif depth > 1 and str(source.name()).startswith("T"):
            found |= _leaves(source, depth=depth - 1)
    return found


def obstacle_of(
    members: Any,
    calls: dict[nn.Module, int],
    *,
    heads: int | None,
    count: int,
    into: dict[Any, str],
) -> str:
    """Why no channel of a set can be removed, or empty.

    Args:
        members: Of the set: node, whether it reads the channels, its indices, and theirs in the
            set.
        calls: How often each module is used.
        heads: Number of attention heads that they are, or None.
        count: Number of channels.
        into: What the graph's ends go into, if not out of the network.
    """
    if heads is not None and count % heads:
        return f"{count} channels are no multiple of {heads} heads"
    makers = [node.module for node, reads, _, _ in members if not reads]
    spatial = max((len(getattr(layer, "kernel_size", ())) for layer in makers), default=0)
    for node, _, _, _ in members:
        found = _of_node(node, attention=bool(heads), into=into) or _across(node, spatial, count)
        if found:
            return found
        if calls.get(node.module, 1) > 1:
            return f"{type(node.module).__name__} is used more than once"
    return ""


def _of_node(node: Any, *, attention: bool, into: dict[Any, str]) -> str:
    kind, name = kind_of(node), type(node.module).__name__
    if node.type.name == "ELEMENTWISE":
        if not kind or not is_unknown(node, attention=attention):
            return ""
        product = kind in {"Addmm", "Mm"}
        return _BY_WEIGHT if product else f"{kind} is not known to treat every channel separately"
    if node.type.name == "OUTPUT":
        opaque = into.get(node.grad_fn)
        return f"they go into {opaque}" if opaque else OUTPUTS
    if node.type.name == "PARAMETER":
        return "they meet a parameter outside of the known layers"
    if node.type.name not in _STRUCTURAL:
        return f"they pass through {_WORDS.get(node.type.name, name)}"
    if _joins_inputs(node):
        return "they are concatenated with an input of the network or another constant"
    if node.type.name == "CONV" and node.module.groups > 1:
        return "they pass through a grouped convolution"
    return _COMPUTED.format(name) if _is_computed(node) else ""


def _is_computed(node: Any) -> bool:
    layer = node.type.name in {"CONV", "DEPTHWISE_CONV", "LINEAR"}
    return layer and node.module._parameters.get("weight") is None


def _across(node: Any, spatial: int, count: int) -> str:
    """Whether an operation goes over the channels themselves.

    They lie last, or before the `spatial` dimensions if a convolution makes them.
    """
    kind, function = kind_of(node), node.grad_fn
    if kind == "ConstantPadNd":
        pads = list(function._saved_pad)[2 * spatial :][:2]
        return "padding adds channels to them" if any(pads) else ""
    sizes = list(getattr(function, "_saved_self_sym_sizes", ()))
    if kind != "Mean" or not sizes:
        return ""
    place = 1 if spatial and len(sizes) == spatial + 2 else len(sizes) - 1
    if sizes[place] != count:
        return ""
    # Dimensions counted from the end are stored as unsigned numbers.
    dims = {(d - 2**64 if d >= 2**63 else d) % len(sizes) for d in function._saved_dim}
    return "Mean goes over the channels" if place in dims else ""
