"""A use of a weight, and the uses that the call of a module makes of its own weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ws_learner.pruning.layers.convolution_windows import Convolution
from ws_learner.pruning.layers.matrix_use import Rows
from ws_learner.pruning.layers.recurrent import cell_inputs, recurrent_inputs
from ws_learner.pruning.layers.watched import Watched

__all__ = ["Use", "uses_of_call"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Use:
    """One use of a weight.

    Attributes:
        weight: What is used.
        macs: Multiply-accumulates of the whole batch.
        inputs: What it is multiplied by; None where that cannot be told.
        reads: How the weight's rows read it: the module that was called, a convolution, rows of a
            matrix; None for vectors (B, ..., D).
        output: The module's.
        there: (B, T) False at vectors that do not count.
    """

    weight: Watched
    macs: int
    inputs: Tensor | None = None
    reads: nn.Module | Convolution | Rows | None = None
    output: Tensor | None = None
    there: Tensor | None = None


def uses_of_call(
    module: nn.Module, weights: Sequence[Watched], args: Sequence[Any], output: Any
) -> Iterator[Use]:
    """The uses of a module's weights by its own call."""
    if isinstance(module, nn.RNNBase):
        states = next((x for x in args[1:] if x is not None), None)
        found, there = recurrent_inputs(module, args[0], states)
        steps = int(there.sum())
    elif isinstance(module, nn.RNNCellBase):
        found, there = cell_inputs(module, *args[:2]), None
        steps = len(found["weight_ih"])
    else:
        for weight in weights:
            # Each output value is one dot product with one output's slice of the weight.
            per_output = weight.layout.width(tuple(weight.parameter.shape))
            made = output[0] if isinstance(output, tuple) else output
            macs = made.numel() * per_output
            if weight.kind.startswith("conv_transpose"):  # each input meets a slice of it
                macs = args[0].numel() * weight.parameter[0].numel()
            yield Use(weight=weight, macs=macs, inputs=args[0], reads=module, output=output)
        return
    for weight in weights:
        own = found[weight.name.rpartition(".")[2]]
        macs = steps * weight.parameter.numel()
        yield Use(weight=weight, macs=macs, inputs=own, there=there)
