"""The forward of any exportable network as JSON, so that a file can hold it.

`torch.export` records the operations of a forward pass. Here they are written as plain values, and
built again as a network that has the linear layers and convolutions as modules under their own
names, for kernels to replace, and all other operations as calls. What may be called is listed in
`graph_ops.py`; `graph_network.py` builds the network again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from ws_learner.core import UserError, map_tensors, run_model
from ws_learner.deploy.copies import copy_of
from ws_learner.deploy.other_inputs import first_difference, other_inputs, tensors_in
from ws_learner.deploy.runtime.graph_network import CONV2D, GRAPH, WORDS, rebuild_graph
from ws_learner.deploy.runtime.graph_ops import name_of
from ws_learner.deploy.runtime.output_comparison import tensors_of

__all__ = ["Positional", "export_program", "record_graph"]

_CHECKS = ("_assert", "sym_constrain_range", "_guards")


class Positional(nn.Module):
    """A network that takes the tensors of its inputs one by one, and returns its float tensors.

    Args:
        model: Called as the library calls it, see `run_model`.
        example: Inputs; other ones have the same structure.
    """

    def __init__(self, model: nn.Module, example: Any) -> None:
        super().__init__()
        self.model, self.example = model, example

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """One tensor, or several in a tuple."""
        given = iter(tensors)
        found = tuple(
            tensors_of(run_model(self.model, map_tensors(self.example, lambda _: next(given))))
        )
        return found[0] if len(found) == 1 else found


def export_program(model: nn.Module, example: Any) -> Any:
    """`torch.export`'s program of a `Positional`.

    The number of examples stays open where it can, and so do all sizes of whole-number inputs, the
    length of sentences.

    Raises:
        UserError: The network cannot be exported.
    """
    wrapper = Positional(copy_of(model).eval(), example)
    inputs = tuple(tensors_in(example))
    twice = tuple(torch.cat([x, x]) if x.dim() and len(x) == 1 else x for x in inputs)
    before, problem = torch.backends.mha.get_fastpath_enabled(), None
    torch.backends.mha.set_fastpath_enabled(False)  # one operation for a whole encoder layer
    try:
        for given, least in ((twice, 0), (inputs, 1)):
            try:
                program = torch.export.export(
                    wrapper, given, dynamic_shapes=(_open_sizes(inputs, least=least),)
                )
            except Exception as error:  # a forward pass raises whatever it does
                problem = error
                continue
            if _runs(program, inputs):
                return program
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
    raise UserError(f"the forward pass of {type(model).__name__} cannot be recorded: {first}")


def _open_sizes(inputs: tuple[Tensor, ...], *, least: int) -> tuple[dict[int, Any], ...]:
    """For each input its sizes that may change, from dimension `least` on."""
    found = []
    for x in inputs:
        last = 1 if x.is_floating_point() or x.is_complex() else x.dim()
        found.append({dim: torch.export.Dim.AUTO for dim in range(least, min(last, x.dim()))})
    return tuple(found)


def _runs(program: Any, inputs: tuple[Tensor, ...]) -> bool:
    """Whether the program takes these inputs, and not only such that are twice as many."""
    try:
        with torch.no_grad():
            program.module()(*(x.clone() for x in inputs))
    except Exception:  # a guard, or an operation of another size
        return False
    return True


def record_graph(model: nn.Module, example: Any) -> tuple[dict[str, Any], nn.Module]:
    """The forward pass as JSON values, and the network that these give, with the weights.

    Their outputs are compared with the network's, on inputs of other values, too.

    Args:
        model: Not changed; evaluation mode is recorded.
        example: Inputs of a batch.

    Raises:
        UserError: A file cannot hold the forward pass.
    """
    program = export_program(model, example)
    plain = _Recorder(program, type(model).__name__).plain()
    try:
        again = rebuild_graph(plain)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{type(model).__name__}: a file cannot hold it ({error})") from error
    again.load_state_dict(_state(program), strict=True)
    wrapper, inputs = Positional(copy_of(model).eval(), example), tuple(tensors_in(example))
    found = first_difference(
        lambda given: wrapper(*given), lambda given: again(*given), inputs, inputs_of=_same_size
    )
    if found:
        raise UserError(
            f"the forward pass of {type(model).__name__} depends on its inputs' values, which a "
            f"file cannot hold: {found}"
        )
    return plain, again


def _same_size(example: Any) -> Iterator[tuple[str, Any]]:
    """Other inputs, of the same number of examples: the file may take no other."""
    sizes = [tuple(x.shape) for x in tensors_in(example)]
    for words, inputs in other_inputs(example):
        if [tuple(x.shape) for x in tensors_in(inputs)] == sizes:
            yield words, inputs


def _state(program: Any) -> dict[str, Tensor]:
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
        self._state = _state(program)
        self._names: dict[Any, str] = {}  # of nodes that hold a weight, buffer or constant
        self._places: dict[Any, int] = {}

    def plain(self) -> dict[str, Any]:
        """The description.

        Raises:
            UserError: It cannot be given.
        """
        steps: list[list[Any]] = []
        specs = {
            spec.arg.name: spec
            for spec in self._program.graph_signature.input_specs
            if hasattr(spec.arg, "name")
        }
        if self._program.graph_signature.buffers_to_mutate:
            raise UserError(f"{self._network} changes its buffers in evaluation mode")
        inputs, layers = 0, dict[str, dict[str, Any]]()
        for node in self._program.graph.nodes:
            if node.op == "placeholder" and specs[node.name].target:
                self._names[node] = _own(specs[node.name].target)
            elif node.op == "placeholder":
                self._places[node], inputs = inputs, inputs + 1
        result: Any = None
        for node in self._program.graph.nodes:
            if node.op == "output":
                (found,) = node.args
                result = [self._value(one) for one in found]
            elif node.op == "call_function" and not self._is_check(node):
                self._places[node] = inputs + len(steps)
                steps.append(self._layer(node, layers) or self._step(node))
            elif node.op not in ("placeholder", "call_function"):
                raise UserError(f"{self._network}: its forward has {node.op} in it")
        tensors = {
            name: [list(value.shape), str(value.dtype), self._is_parameter(name)]
            for name, value in sorted(self._state.items())
        }
        return {
            "class": GRAPH,
            "inputs": inputs,
            "layers": layers,
            "tensors": tensors,
            "steps": steps,
            "outputs": result,
        }

    def _is_parameter(self, name: str) -> bool:
        return isinstance(self._program.state_dict.get(f"model.{name}"), nn.Parameter)

    def _is_check(self, node: Any) -> bool:
        name = getattr(getattr(node.target, "_schema", None), "name", str(node.target))
        return not node.users and name.partition("::")[2].startswith(_CHECKS)

    def _layer(self, node: Any, layers: dict[str, dict[str, Any]]) -> list[Any] | None:
        """A call of a module, for plain linear layers and convolutions."""
        kind = {torch.ops.aten.linear.default: "Linear", torch.ops.aten.conv2d.default: "Conv2d"}
        if node.target not in kind or node.kwargs:
            return None
        x, weight, bias = [*node.args, None][:3]
        rest = node.args[3:]
        name = self._names.get(weight, "")
        layer, _, last = name.rpartition(".")
        own_bias = bias is None or self._names.get(bias) == f"{layer}.bias"
        if last != "weight" or not layer or not own_bias or not self._is_parameter(name):
            return None
        if len(self._state[name].shape) != (2 if kind[node.target] == "Linear" else 4):
            return None
        own: dict[str, Any] = {"class": kind[node.target], "bias": bias is not None}
        if own["class"] == "Conv2d":
            defaults: list[Any] = [[1, 1], [0, 0], [1, 1], 1]
            given = [*rest, *defaults[len(rest) :]]
            if not all(isinstance(value, int | list | tuple) for value in given):
                return None
            own |= dict(zip(CONV2D, map(_pair, given[:3]), strict=True)) | {"groups": given[3]}
        alike = [one for one in weight.users if one.target is node.target and not one.kwargs]
        if len(alike) < len(weight.users) or any(one.args[1:] != node.args[1:] for one in alike):
            return None  # something else reads the weight, too
        layers[layer] = own
        return ["layer", layer, [self._value(x)], {}]

    def _step(self, node: Any) -> list[Any]:
        if node.target is torch.ops.aten.dropout.default and not node.args[2]:
            return ["same", "", [self._value(node.args[0])], {}]
        name = name_of(node.target)
        if name is None:
            raise UserError(f"{self._network}: a file cannot hold {node.target}")
        words = {key: self._value(value) for key, value in node.kwargs.items()}
        return ["call", name, [self._value(value) for value in node.args], words]

    def _value(self, value: Any) -> Any:
        """JSON of an argument; what is no number, text or list is a dict of one entry."""
        if isinstance(value, fx.Node):
            return (
                {"tensor": self._names[value]}
                if value in self._names
                else {"value": self._places[value]}
            )
        if isinstance(value, list | tuple):
            return [self._value(one) for one in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, slice):
            return {"slice": [self._value(x) for x in (value.start, value.stop, value.step)]}
        if isinstance(value, torch.device) and value.type == "cpu":
            return {"device": "cpu"}
        if str(value) in WORDS:
            return {"word": str(value)}
        raise UserError(f"{self._network}: a file cannot hold {value!r}")


def _pair(value: Any) -> list[int]:
    given = list(value) if isinstance(value, list | tuple) else [value]
    return given * 2 if len(given) == 1 else given
