"""Which parameters are prunable weights, of what kind, and in which layout they are stored."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from ws_learner.core import UserError
from ws_learner.pruning.patterns.layout import Layout

__all__ = [
    "KINDS",
    "conv1d_of_transformers",
    "is_conv1d_of_transformers",
    "is_embedding",
    "kinds_of",
    "layout_of",
    "name_layout",
    "note_layout",
]

KINDS: dict[type[nn.Module], str] = {
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
    nn.ConvTranspose1d: "conv_transpose1d",
    nn.ConvTranspose2d: "conv_transpose2d",
    nn.ConvTranspose3d: "conv_transpose3d",
    nn.Linear: "linear",
}
"""Modules whose `weight` is listed."""

_RECURRENT = re.compile(r"weight_(ih|hh|hr)(_l\d+)?(_reverse)?")
_PACKED = {"in_proj_weight": 3, "q_proj_weight": 1, "k_proj_weight": 1, "v_proj_weight": 1}
_NAMED, _SEEN = "_named_layouts", "_seen_layouts"
_WORDS = {"outputs": "o", "inputs": "i", "experts": "e"}


def kinds_of(name: str, module: nn.Module) -> Iterator[tuple[str, str, Layout]]:
    """(attribute, kind, layout) of each prunable weight that the module itself holds.

    Known are convolutions, transposed ones too, Linear and transformers' `Conv1D`, recurrent
    networks and cells, the packed projections of `nn.MultiheadAttention`, stacks of matrices in
    modules that are called experts, and weights whose layout was named with `name_layout`.

    Args:
        name: Of the module; a stack is known by it.
        module: Any.
    """
    named: dict[str, Layout] = getattr(module, _NAMED, {})
    seen: dict[str, Layout] = getattr(module, _SEEN, {})
    for attribute, weight in module._parameters.items():
        if weight is None or isinstance(weight, nn.UninitializedParameter) or weight.dim() < 2:
            continue
        found = _kind(name, module, attribute, weight)
        layout = named.get(attribute) or seen.get(attribute)
        if layout is not None and (found or attribute in named or layout.axes.startswith("e")):
            kind = "experts" if layout.axes.startswith("e") else "tensor"
            found = (found[0] if found else kind), layout
        if found:
            yield attribute, *found


def _kind(
    name: str, module: nn.Module, attribute: str, weight: nn.Parameter
) -> tuple[str, Layout] | None:
    if attribute == "weight":
        kind = next((kind for cls, kind in KINDS.items() if isinstance(module, cls)), None)
        if kind is not None:
            groups = getattr(module, "groups", 1)
            return kind, Layout("io" if "transpose" in kind else "oi", groups)
        if is_conv1d_of_transformers(module):
            return "linear_io", Layout("io")
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return ("recurrent", Layout()) if _RECURRENT.fullmatch(attribute) else None
    if isinstance(module, nn.MultiheadAttention) and attribute in _PACKED:
        return "projection", Layout("oi", _PACKED[attribute])
    named = "expert" in f"{name} {type(module).__name__}".lower()
    if named and weight.dim() == 3 and min(weight.shape) > 1:
        return "experts", Layout("")
    return None


def is_conv1d_of_transformers(module: nn.Module) -> bool:
    """Whether a module is transformers' `Conv1D`: a Linear whose weight is (inputs, outputs)."""
    if conv1d_of_transformers(module) is None:
        return False
    weight = module._parameters.get("weight")
    return weight is not None and getattr(module, "nf", None) == weight.shape[-1]


def conv1d_of_transformers(module: nn.Module) -> type[nn.Module] | None:
    """The class `Conv1D` that a module is of."""
    return next((cls for cls in type(module).__mro__ if cls.__name__ == "Conv1D"), None)


def is_embedding(module: nn.Module) -> bool:
    """Whether a module looks its weight's rows up."""
    return isinstance(module, nn.Embedding | nn.EmbeddingBag)


def layout_of(model: nn.Module, name: str) -> Layout:
    """Layout of a parameter; of one of no known kind it is not known.

    An embedding is taken as stored: its entries are its outputs, as where an output layer
    shares it.
    """
    holder, _, attribute = name.rpartition(".")
    module = model.get_submodule(holder)
    for own, _, layout in kinds_of(holder, module):
        if own == attribute:
            return layout
    seen: dict[str, Layout] = getattr(module, _SEEN, {})
    if attribute in seen:
        return seen[attribute]
    return Layout() if is_embedding(module) else Layout("")


def name_layout(model: nn.Module, name: str, axes: str) -> None:
    """Say which axis of a weight holds its outputs; from then on it is listed and prunable.

    It is needed where the forward pass does not show it, and before any forward pass. The note is
    kept on the module, and goes with copies of it.

    Example:
        >>> # name_layout(model, "block.experts.w1", "experts inputs outputs")

    Args:
        model: The network.
        name: Of the parameter.
        axes: `outputs inputs`, `inputs outputs`, or with `experts` first; further axes are a
            kernel's.

    Raises:
        UserError: There is no such parameter, or its axes are others.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if name not in parameters:
        raise UserError(f"`name` {name!r}: the model has no such parameter")
    weight = parameters[name]
    letters = "".join(_WORDS.get(word, "?") for word in axes.split())
    wanted = {2: ("oi", "io"), 3: ("oi", "io", "eoi", "eio")}.get(weight.dim(), ("oi", "io"))
    if letters not in wanted or weight.dim() < 2:
        raise UserError(
            f"`axes` {axes!r}: {name} of shape {tuple(weight.shape)} may have 'outputs inputs' or "
            "'inputs outputs', after 'experts' if it is a stack of three axes"
        )
    groups = weight.shape[0] if letters.startswith("e") else 1
    _note(model, name, Layout(letters, groups), _NAMED)


def note_layout(model: nn.Module, name: str, layout: Layout) -> None:
    """Keep the layout that a forward pass has shown on the module that holds the parameter."""
    _note(model, name, layout, _SEEN)


def _note(model: nn.Module, name: str, layout: Layout, where: str) -> None:
    holder, _, attribute = name.rpartition(".")
    module = model.get_submodule(holder)
    object.__setattr__(module, where, {**getattr(module, where, {}), attribute: layout})
