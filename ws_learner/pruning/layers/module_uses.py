"""A use of a weight, and the uses that the call of a module makes of its own weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from ws_learner.pruning.layers.convolution_windows import Convolution
from ws_learner.pruning.layers.matrix_use import Rows
from ws_learner.pruning.layers.recurrent import cell_inputs, recurrent_inputs
from ws_learner.pruning.layers.watched import Watched
from ws_learner.pruning.layers.weight_kinds import KINDS, conv1d_of_transformers

__all__ = ["Call", "Use", "has_own_forward", "uses_of_call"]


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


@dataclass(kw_only=True, eq=False)
class Call:
    """A call of a module that is under way.

    Attributes:
        own_forward: Whether a forward of the user's own computes it.
        used: Whether the weight was used in it.
        products: Uses that were seen in it, kept if it has a forward of its own.
    """

    own_forward: bool
    used: bool = False
    products: list[Use] = field(default_factory=list)

    def uses(
        self, module: nn.Module, weights: Sequence[Watched], args: Sequence[Any], output: Any
    ) -> Iterator[Use]:
        """Its uses: a forward of its own may do anything to inputs and outputs."""
        if self.products:
            yield from (replace(use, output=output) for use in self.products)
        else:
            yield from uses_of_call(module, weights, args, output)


def has_own_forward(module: nn.Module) -> bool:
    """Whether a Linear or convolution computes other things than its class of PyTorch does."""
    known: type[nn.Module] | None = next((cls for cls in KINDS if isinstance(module, cls)), None)
    known = known or conv1d_of_transformers(module)
    names = ("forward", "_conv_forward")
    return known is not None and any(
        name in vars(module) or getattr(type(module), name, None) is not getattr(known, name, None)
        for name in names
    )


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
