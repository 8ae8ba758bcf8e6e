"""Order, count and cost of the uses of prunable tensors in a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["KINDS", "Found", "in_forward_order", "weight_name"]

KINDS: dict[type[nn.Module], str] = {
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Linear: "linear",
}


@dataclass(kw_only=True, eq=False)
class Found:
    """A prunable tensor, the names of all modules that hold it, and its cost per example."""

    parameter: nn.Parameter
    kind: str
    modules: list[str]
    role: str
    macs: int = 0

    @property
    def name(self) -> str:
        """The parameter's first name."""
        return weight_name(self.modules[0])

    @property
    def names(self) -> list[str]:
        """What patterns may call it: its parameter's names and its modules'."""
        return [name for module in self.modules for name in (weight_name(module), module)]

    def matches(self, patterns: Sequence[str]) -> bool:
        """Whether one of the shell patterns fits one of its names."""
        return any(fnmatchcase(name, pattern) for name in self.names for pattern in patterns)


def in_forward_order(model: nn.Module, inputs: Tensor, found: Sequence[Found]) -> Iterable[Found]:
    """Run the model once, set `macs` and the head's role, and sort by first use."""
    calls: list[Found] = []
    by_word = False  # whether some Linear has taken a vector for each word

    def counter(entry: Found) -> Callable[[nn.Module, object, Tensor], None]:
        def count(module: nn.Module, args: object, output: Tensor) -> None:
            # Each output value is one dot product with one output's slice of the weight.
            nonlocal by_word
            entry.macs += output.numel() * entry.parameter[0].numel()
            calls.append(entry)
            if entry.kind == "linear" and by_word and output.dim() == 2:
                entry.role = "head"
            by_word |= entry.kind == "linear" and output.dim() == 3

        return count

    functional = _FunctionalCalls(found, calls)
    with _left_as_it_was(model, inputs), ExitStack() as hooks, torch.no_grad():
        for module, entry in _holders(model, found).items():
            hooks.callback(module.register_forward_hook(counter(entry)).remove)
        model.eval()
        with functional:
            model(inputs)
    for entry, macs in functional.macs.items():  # Swin v2 reads `qkv.weight` without a call
        if not entry.macs:
            entry.macs = macs
    for entry in found:
        entry.macs = round(entry.macs / len(inputs))
    if calls and calls[-1].kind == "linear":
        calls[-1].role = "head"
    return dict.fromkeys([*calls, *found])


class _FunctionalCalls(TorchFunctionMode):
    """Records uses of weights and the MACs of linear functions, whatever module calls them."""

    def __init__(self, found: Sequence[Found], calls: list[Found]) -> None:
        super().__init__()
        self._entries, self._calls = {id(entry.parameter): entry for entry in found}, calls
        self.macs: dict[Found, int] = {}

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
        entry = self._entries.get(id(weight))
        if entry is not None and func is torch.nn.functional.linear and isinstance(output, Tensor):
            self._calls.append(entry)
            self.macs[entry] = self.macs.get(entry, 0) + output.numel() * entry.parameter.shape[1]
        return output


def _holders(model: nn.Module, found: Sequence[Found]) -> dict[nn.Module, Found]:
    """Map each prunable module, once, to its tensor."""
    return {model.get_submodule(name): entry for entry in found for name in entry.modules}


@contextmanager
def _left_as_it_was(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Restore train/eval flags, buffers and the random state of PyTorch on leaving."""
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    try:
        with torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
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
