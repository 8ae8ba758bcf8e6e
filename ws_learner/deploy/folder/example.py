"""What a deploy folder says of a network: an example, its outputs, and how large it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import Inputs, UserError
from ws_learner.deploy.copies import copy_of
from ws_learner.deploy.other_inputs import tensors_in
from ws_learner.deploy.runtime.network_graph import Positional
from ws_learner.pruning import layer_table

__all__ = ["counts", "dense_outputs", "described", "example_tensors", "names_of"]


def example_tensors(inputs: Inputs) -> list[Tensor]:
    """The tensors of a batch, on the CPU.

    Raises:
        UserError: There is none, or an array cannot hold one.
    """
    found = [x.detach().cpu() for x in tensors_in(inputs)]
    if not found or not found[0].dim() or not len(found[0]):
        raise UserError("`example_inputs`: hold no batch of tensors; give inputs of the network")
    try:
        return [torch.from_numpy(x.numpy().copy()) for x in found]
    except TypeError as error:
        raise UserError(f"`example_inputs`: {error}; give float32 or whole numbers") from error


@torch.no_grad()
def dense_outputs(model: nn.Module, example: Inputs) -> list[Tensor]:
    """PyTorch's, in evaluation mode, as floats."""
    network = Positional(copy_of(model).eval(), example)
    found = network(*(x.clone() for x in tensors_in(example)))
    return [x.float() for x in (found if isinstance(found, tuple) else (found,))]


def counts(model: nn.Module, example: Inputs) -> dict[str, int | None]:
    """Weights, zeros and multiply-accumulates of one example, of the layers that can be pruned."""
    try:
        rows = layer_table(model, example)
    except UserError:
        return {"weights": None, "zeros": None, "macs_dense": None, "macs": None}
    state = dict(model.named_parameters(remove_duplicate=False))
    zeros = [int((state[row.name] == 0).sum()) for row in rows]
    kept = (
        row.macs * (1 - gone / max(row.weights, 1)) for row, gone in zip(rows, zeros, strict=True)
    )
    return {
        "weights": sum(row.weights for row in rows),
        "zeros": sum(zeros),
        "macs_dense": sum(row.macs for row in rows),
        "macs": round(math.fsum(kept)),
    }


def names_of(example: Inputs) -> list[str] | None:
    """Names of the inputs, if they are keywords."""
    flat = isinstance(example, Mapping) and all(isinstance(x, Tensor) for x in example.values())
    return [str(name) for name in example] if flat else None


def described(tensors: list[Tensor], names: list[str] | None) -> list[dict[str, Any]]:
    """Name, shape and type of tensors; names count up where there are none."""
    names = names or [f"{i}" for i in range(len(tensors))]
    return [
        {"name": name, "shape": list(x.shape), "dtype": str(x.dtype).removeprefix("torch.")}
        for name, x in zip(names, tensors, strict=True)
    ]
