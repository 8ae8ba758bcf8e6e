"""The forward of any exportable network as JSON, so that a file can hold it.

`torch.export` records the operations of a forward pass. Here they are written as plain values, and
built again as a network that has the linear layers and convolutions as modules under their own
names, for kernels to replace, and all other operations as calls. What may be called is listed in
`graph_ops.py`; `graph_network.py` builds the network again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError, map_tensors, run_model
from ws_learner.deploy.copies import copy_of
from ws_learner.deploy.other_inputs import first_difference, other_inputs, tensors_in
from ws_learner.deploy.runtime.graph_network import rebuild_graph
from ws_learner.deploy.runtime.graph_recorder import describe_program, program_state
from ws_learner.deploy.runtime.output_comparison import tensors_of

__all__ = ["Positional", "export_program", "record_graph"]


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
    plain = describe_program(program, type(model).__name__)
    try:
        again = rebuild_graph(plain)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{type(model).__name__}: a file cannot hold it ({error})") from error
    again.load_state_dict(program_state(program), strict=True)
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
