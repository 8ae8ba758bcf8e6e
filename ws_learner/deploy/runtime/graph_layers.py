"""Layers in a recorded forward pass: which operations are calls of a module, and such modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

__all__ = ["build_layer", "layer_call"]

_ATEN = torch.ops.aten
_KINDS: dict[Any, str] = {
    _ATEN.linear.default: "Linear",
    _ATEN.conv2d.default: "Conv2d",
    _ATEN.layer_norm.default: "LayerNorm",
}
_AT = {"Linear": 1, "Conv2d": 1, "LayerNorm": 2}  # place of the weight; the bias follows
_CONV2D: dict[str, Any] = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}


def layer_call(
    node: fx.Node, names: Mapping[fx.Node, str], state: Mapping[str, Tensor]
) -> tuple[str, dict[str, Any]] | None:
    """Name and settings of the layer that a node calls; None if it calls none by itself.

    Args:
        node: Of an exported program.
        names: Of the nodes that hold weights.
        state: The weights.
    """
    kind = _KINDS.get(node.target)
    if kind is None or node.kwargs or len(node.args) <= _AT[kind]:
        return None
    weight: Any
    bias: Any
    weight, bias = [*node.args[_AT[kind] :], None][:2]
    name = names.get(weight, "") if isinstance(weight, fx.Node) else ""
    layer, _, last = name.rpartition(".")
    own_bias = bias is None or names.get(bias) == f"{layer}.bias"
    if last != "weight" or not layer or not own_bias or not _reads_alone(node, weight):
        return None
    settings: dict[str, Any] = {"class": kind, "bias": bias is not None}
    shape = state[name].shape
    if kind == "LayerNorm":
        rest = node.args[4:]
        whole = bias is not None and node.args[1] == list(shape)
        return (layer, settings | {"eps": rest[0] if rest else 1e-5}) if whole else None
    if kind == "Conv2d":
        given = dict(zip(_CONV2D, node.args[3:], strict=False))
        if not all(isinstance(value, int | list | tuple) for value in given.values()):
            return None
        settings |= {key: _plain(key, given.get(key, usual)) for key, usual in _CONV2D.items()}
    return (layer, settings) if len(shape) == (4 if kind == "Conv2d" else 2) else None


def _reads_alone(node: fx.Node, weight: Any) -> bool:
    """Whether only calls of this layer read the weight."""
    return all(
        one.target is node.target and not one.kwargs and one.args[1:] == node.args[1:]
        for one in weight.users
    )


def _plain(key: str, value: Any) -> Any:
    if key == "groups":
        return value
    given = list(value) if isinstance(value, list | tuple) else [value]
    return given * 2 if len(given) == 1 else given


def build_layer(shape: list[int], own: Mapping[str, Any]) -> nn.Module:
    """The module, with uninitialised weights.

    Args:
        shape: Of the weight.
        own: Settings, as `layer_call` gives them.

    Raises:
        ValueError: It is none of these layers; KeyError: a setting is missing.
    """
    skip: Any = torch.nn.utils.skip_init
    kind, bias = own["class"], bool(own["bias"])
    made: nn.Module
    if kind == "Linear" and len(shape) == 2:
        made = skip(nn.Linear, shape[1], shape[0], bias=bias)
    elif kind == "LayerNorm":
        made = nn.LayerNorm(shape, eps=float(own["eps"]), bias=bias)
    elif kind == "Conv2d" and len(shape) == 4:
        groups = int(own["groups"])
        places = {key: tuple(map(int, own[key])) for key in list(_CONV2D)[:3]}
        channels, kernel = (shape[1] * groups, shape[0]), shape[2:]
        made = skip(nn.Conv2d, *channels, kernel, groups=groups, bias=bias, **places)
    else:
        raise ValueError(f"layer of class {kind}")
    return made
