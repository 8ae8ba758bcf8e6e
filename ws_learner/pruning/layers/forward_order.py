"""Order, count and cost of the uses of prunable tensors in a forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from ws_learner.core import (
    Inputs,
    UserError,
    count_of,
    device_of,
    model_failure,
    name_fits,
    run_model,
)
from ws_learner.pruning.layers.matrix_use import Rows
from ws_learner.pruning.layers.module_uses import Use
from ws_learner.pruning.layers.watched import Watched
from ws_learner.pruning.layers.weight_uses import WeightUses
from ws_learner.pruning.patterns.layout import Layout

__all__ = ["Found", "in_forward_order", "weight_name"]


@dataclass(kw_only=True, eq=False)
class Found:
    """A prunable tensor, the names of all modules that hold it, and its cost per example.

    Attributes:
        parameter: The tensor.
        kind: See `LayerRow`.
        layout: Which axis holds the outputs.
        role: See `LayerRow`.
        parameters: Its names.
        modules: Names of the modules that hold it, in the same order.
        callers: Those of these modules whose call is a use of the tensor.
        macs: Multiply-accumulates of one example.
        embedding: Name of an embedding that shares it, or empty.
        changed: Whether the network computes with other values than the stored ones.
        touched: Whether the forward pass reads it at all.
    """

    parameter: nn.Parameter
    kind: str
    layout: Layout
    role: str
    parameters: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    callers: list[nn.Module] = field(default_factory=list)
    macs: int = 0
    embedding: str = ""
    changed: bool = False
    touched: bool = False

    @property
    def name(self) -> str:
        """The parameter's first name."""
        return self.parameters[0]

    @property
    def names(self) -> list[str]:
        """What patterns may call it: its parameter's names and its modules'."""
        pairs = zip(self.parameters, self.modules, strict=True)
        return [name for pair in pairs for name in pair]

    def matches(self, patterns: Sequence[str]) -> bool:
        """Whether one of the patterns fits one of its names, see `name_fits`."""
        return any(name_fits(name, pattern) for name in self.names for pattern in patterns)


def in_forward_order(model: nn.Module, inputs: Inputs, found: Sequence[Found]) -> Iterable[Found]:
    """Run the model once, set costs, layouts and the head's role, and sort by first use."""
    calls: list[Found] = []
    by_word = False  # whether some Linear has taken a vector for each word
    attends = False  # whether the last use is a part of an attention
    entries = {entry.name: entry for entry in found}

    def count(use: Use) -> None:
        nonlocal by_word, attends
        entry = entries[use.weight.name]
        entry.macs += use.macs
        if not use.macs and entry.kind != "embedding":  # looked up: its place is that of a product
            return
        calls.append(entry)
        attends = isinstance(use.reads, Rows) and use.reads.time_first
        linear, output = entry.kind.startswith("linear"), use.output
        if linear and by_word and output is not None and output.dim() == 2:
            entry.role = "head"
        by_word |= linear and output is not None and output.dim() == 3

    weights = [
        Watched(
            name=entry.name,
            parameter=entry.parameter,
            kind=entry.kind,
            layout=entry.layout,
            modules=entry.callers,
        )
        for entry in found
    ]
    uses = WeightUses(model, weights, count)
    with _left_as_it_was(model, inputs), torch.no_grad():
        model.eval()
        with uses.observing():
            try:
                run_model(model, inputs)
            except UserError:
                raise
            except Exception as error:  # it may raise anything
                raise model_failure(error, inputs) from error
    for entry, weight in zip(found, weights, strict=True):
        entry.macs = round(entry.macs / count_of(inputs))
        entry.layout, entry.changed = weight.layout, entry.name in uses.changed
        entry.touched = entry in calls or entry.name in uses.touched
    if calls and calls[-1].kind.startswith("linear") and not attends:
        calls[-1].role = "head"
    return dict.fromkeys([*calls, *found])


@contextmanager
def _left_as_it_was(model: nn.Module, inputs: Inputs) -> Iterator[None]:
    """Restore train/eval flags, buffers and the random state of PyTorch on leaving."""
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    try:
        device = device_of(inputs)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, training in flags:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, values in buffers:
                module._buffers[name] = buffer
                if buffer is not None and values is not None:
                    buffer.copy_(values)


def weight_name(module: str) -> str:
    """Name of a module's weight, also where the module is the whole network."""
    return f"{module}.weight" if module else "weight"
