"""A network from the JSON values that `network_graph.record_graph` made.

Names and operations are checked before anything is built: `fx` makes code of them.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ws_learner.deploy.runtime.graph_layers import build_layer
from ws_learner.deploy.runtime.graph_ops import function_of

__all__ = ["GRAPH", "WORDS", "rebuild_graph"]

GRAPH = "Graph"
_KINDS = (torch.dtype, torch.layout, torch.memory_format)
WORDS = {str(value): value for value in vars(torch).values() if isinstance(value, _KINDS)}
"""Types, layouts and memory formats by their names in a file."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][\w-]*(\.[\w-]+)*", re.ASCII)


def rebuild_graph(plain: Mapping[str, Any]) -> nn.Module:
    """The network, with uninitialised weights; it takes tensors one by one.

    Raises:
        ValueError: The description names something that is not allowed, or does not fit together;
            also KeyError, TypeError, AttributeError.
    """
    root = nn.Module()
    _add_tensors(root, plain["tensors"], plain["layers"])
    for name, part in plain.get("parts", {}).items():
        inside = root.get_submodule(_checked(name))
        made = _Builder(plain, part, inside, prefix=f"{name}.").network()
        above, _, last = name.rpartition(".")
        root.get_submodule(above).add_module(last, made)
    return _Builder(plain, plain, root).network()


class _Builder:
    """Builds the nodes of a description, or of a part of it."""

    def __init__(
        self, plain: Mapping[str, Any], own: Mapping[str, Any], root: nn.Module, *, prefix: str = ""
    ) -> None:
        self._plain, self._own, self._root, self._prefix = plain, own, root, prefix
        self._graph = fx.Graph()
        count = int(own["inputs"])
        self._values: list[Any] = [self._graph.placeholder(f"input_{i}") for i in range(count)]
        self._held: dict[str, fx.Node] = {}

    def network(self) -> nn.Module:
        """The network of these steps."""
        for kind, name, places, words in self._own["steps"]:
            self._values.append(self._step(kind, name, self._read(places), words))
        outputs = tuple(self._read(self._own["outputs"]))
        self._graph.output(outputs[0] if len(outputs) == 1 else outputs)
        return fx.GraphModule(self._root, self._graph, class_name=GRAPH).eval()

    def _step(self, kind: str, name: str, places: list[Any], words: Mapping[str, Any]) -> Any:
        if kind == "same":
            return places[0]
        if kind == "layer" and name in self._plain["layers"]:
            return self._graph.call_module(self._inside(name), (places[0],))
        if kind == "part" and name in self._plain["parts"]:
            return self._graph.call_module(self._inside(name), tuple(places))
        if kind != "call" or not all(map(str.isidentifier, map(_checked, words))):
            raise ValueError(f"step {kind} of {name} with {', '.join(words)}")
        named = {key: self._read(value) for key, value in words.items()}
        return self._graph.call_function(function_of(name), tuple(places), named)

    def _inside(self, name: str) -> str:
        """The name as seen from the part."""
        if not _checked(name).startswith(self._prefix):
            raise ValueError(f"{name} is not in {self._prefix}")
        return name.removeprefix(self._prefix)

    def _read(self, value: Any) -> Any:
        """An argument, see `graph_recorder`."""
        if isinstance(value, list):
            return [self._read(one) for one in value]
        if not isinstance(value, dict):
            return value
        ((kind, given),) = value.items()
        if kind == "value":
            if not isinstance(given, int) or not 0 <= given < len(self._values):
                raise ValueError(f"value {given}")
            return self._values[given]
        if kind == "tensor":
            if given not in self._plain["tensors"]:
                raise ValueError(f"tensor {given}")
            if given not in self._held:
                self._held[given] = self._graph.get_attr(self._inside(given))
            return self._held[given]
        return slice(*self._read(given)) if kind == "slice" else _constant(kind, given)


def _add_tensors(
    root: nn.Module, tensors: Mapping[str, Any], layers: Mapping[str, Mapping[str, Any]]
) -> None:
    """Layers, and what other operations read, under their own names."""
    for name, own in layers.items():
        shape = [int(size) for size in tensors[f"{name}.weight"][0]]
        _put(root, _checked(name), build_layer(shape, own))
    for name, (shape, word, is_parameter) in tensors.items():
        layer, _, last = _checked(name).rpartition(".")
        if layer in layers and last in ("weight", "bias"):
            continue
        dtype = _constant("word", word)
        value = torch.zeros([int(size) for size in shape], dtype=dtype)
        _put(root, name, nn.Parameter(value, value.is_floating_point()) if is_parameter else value)


def _put(root: nn.Module, name: str, value: nn.Module | Tensor) -> None:
    """Add a part under its name, with plain modules in between."""
    *above, last = name.split(".")
    for part in above:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    if isinstance(value, nn.Module):
        root.add_module(last, value)
    elif isinstance(value, nn.Parameter):
        root.register_parameter(last, value)
    else:
        root.register_buffer(last, value)


def _checked(name: Any) -> str:
    """A name that may stand in generated code."""
    parts = str(name).split(".")
    if not _PLAIN_NAME.fullmatch(str(name)) or any(map(keyword.iskeyword, parts)):
        raise ValueError(f"name {name!r}")
    return str(name)


def _constant(kind: str, given: Any) -> Any:
    if kind == "float" and given in ("inf", "-inf", "nan"):
        return float(given)
    if kind == "device" and given == "cpu":
        return torch.device("cpu")
    if kind == "word" and given in WORDS:
        return WORDS[given]
    raise ValueError(f"{kind} {given!r}")
