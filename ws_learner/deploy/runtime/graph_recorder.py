"""The nodes of an exported program as JSON values, for `graph_network.py` to build again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ws_learner.core import UserError
from ws_learner.deploy.runtime.graph_layers import layer_call
from ws_learner.deploy.runtime.graph_network import GRAPH, WORDS
from ws_learner.deploy.runtime.graph_ops import name_of
from ws_learner.deploy.runtime.graph_parts import Part, find_parts

__all__ = ["describe_program", "program_state"]

_CHECKS = ("_assert", "sym_constrain_range", "_guards")


def describe_program(program: Any, network: str) -> dict[str, Any]:
    """The description of a program that `network_graph.export_program` made.

    Args:
        program: Of `torch.export`.
        network: Its name in messages.

    Raises:
        UserError: It cannot be given.
    """
    return _Recorder(program, network).plain()


def program_state(program: Any) -> dict[str, Tensor]:
    """Weights, buffers and constants of a program, under the names of its description."""
    state = {**program.constants, **program.state_dict}
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    specs = program.graph_signature.input_specs
    wanted = {spec.target for spec in specs if spec.target and spec.arg.name in used}
    return {_own(name): state[name].detach() for name in wanted}


def _own(name: str) -> str:
    return name.removeprefix("model.")


class _Recorder:
    """Writes the nodes of a program, weights of layers as modules."""

    def __init__(self, program: Any, network: str) -> None:
        self._program, self._network = program, network
        self._state = program_state(program)
        self._parameters = {
            _own(name)
            for name, value in program.state_dict.items()
            if isinstance(value, nn.Parameter)
        }
        self._names: dict[fx.Node, str] = {}  # of nodes that hold a weight, buffer or constant
        self._layers: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, dict[str, Any]] = {}

    def plain(self) -> dict[str, Any]:
        """The description."""
        signature = self._program.graph_signature
        if signature.buffers_to_mutate:
            raise UserError(f"{self._network} changes its buffers in evaluation mode")
        targets = {s.arg.name: s.target for s in signature.input_specs if hasattr(s.arg, "name")}
        inputs: list[fx.Node] = []
        calls: list[fx.Node] = []
        result: Sequence[Any] = ()
        for node in self._program.graph.nodes:
            if node.op == "placeholder" and targets[node.name]:
                self._names[node] = _own(targets[node.name])
            elif node.op == "placeholder":
                inputs.append(node)
            elif node.op == "output":
                (result,) = node.args
            elif node.op != "call_function":
                raise UserError(f"{self._network}: its forward has {node.op} in it")
            elif not _is_check(node):
                calls.append(node)
        parts = {part.nodes[0]: part for part in find_parts(calls, self._names)}
        places = {node: place for place, node in enumerate(inputs)}
        steps = self._steps(calls, places, parts)
        tensors = {
            name: [list(value.shape), str(value.dtype), name in self._parameters]
            for name, value in sorted(self._state.items())
        }
        return {
            "class": GRAPH,
            "inputs": len(inputs),
            "layers": self._layers,
            "tensors": tensors,
            "parts": self._parts,
            "steps": steps,
            "outputs": [self._value(one, places) for one in result],
        }

    def _steps(
        self,
        nodes: Sequence[fx.Node],
        places: dict[fx.Node, int],
        parts: Mapping[fx.Node, Part],
    ) -> list[list[Any]]:
        """One step for each node, or for all nodes of a part; `places` grows by their results."""
        steps: list[list[Any]] = []
        first, at = len(places), 0
        while at < len(nodes):
            node = nodes[at]
            if node in parts:
                part = parts[node]
                steps.append(self._part(part, places))
                node, at = part.output, at + len(part.nodes)
            else:
                steps.append(self._step(node, places))
                at += 1
            places[node] = first + len(steps) - 1
        return steps

    def _part(self, part: Part, places: dict[fx.Node, int]) -> list[Any]:
        inside = {node: place for place, node in enumerate(part.inputs)}
        steps = self._steps(part.nodes, inside, {})
        outputs = [self._value(part.output, inside)]
        self._parts[part.name] = {"inputs": len(part.inputs), "steps": steps, "outputs": outputs}
        return ["part", part.name, [self._value(one, places) for one in part.inputs], {}]

    def _step(self, node: fx.Node, places: Mapping[fx.Node, int]) -> list[Any]:
        found = layer_call(node, self._names, self._state)
        if found is not None and f"{found[0]}.weight" in self._parameters:
            self._layers[found[0]] = found[1]
            return ["layer", found[0], [self._value(node.args[0], places)], {}]
        if node.target is torch.ops.aten.dropout.default and not node.args[2]:
            return ["same", "", [self._value(node.args[0], places)], {}]
        name = name_of(node.target)
        if name is None:
            raise UserError(f"{self._network}: a file cannot hold {node.target}")
        words = {key: self._value(value, places) for key, value in node.kwargs.items()}
        return ["call", name, [self._value(value, places) for value in node.args], words]

    def _value(self, value: Any, places: Mapping[fx.Node, int]) -> Any:
        """JSON of an argument; what is no number, text or list is a dict of one entry."""
        if isinstance(value, fx.Node):
            held = self._names.get(value)
            return {"value": places[value]} if held is None else {"tensor": held}
        if isinstance(value, list | tuple):
            return [self._value(one, places) for one in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, slice):
            return {
                "slice": [self._value(x, places) for x in (value.start, value.stop, value.step)]
            }
        if isinstance(value, torch.device) and value.type == "cpu":
            return {"device": "cpu"}
        if str(value) in WORDS:
            return {"word": str(value)}
        raise UserError(f"{self._network}: a file cannot hold {value!r}")


def _is_check(node: fx.Node) -> bool:
    """An assertion about sizes or types, which gives nothing."""
    name: str = getattr(getattr(node.target, "_schema", None), "name", str(node.target))
    return not node.users and name.partition("::")[2].startswith(_CHECKS)
