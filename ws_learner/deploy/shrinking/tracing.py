"""The dependency graph of a network, ended where it cannot be followed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.deploy.other_inputs import copied_inputs, tensors_in
from ws_learner.deploy.shrinking.graph_rules import is_unknown
from ws_learner.pruning import HEAD_COUNTS

__all__ = ["all_groups", "call_model", "count_calls", "trace"]

_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
# Their many small operations mean nothing for channels.
_OPAQUE = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


def call_model(model: nn.Module, arguments: Any) -> Any:
    """One forward pass on copies of the inputs, which it may change."""
    given = copied_inputs(arguments)
    return model(**given) if isinstance(given, dict) else model(*given)


def trace(model: nn.Module, arguments: Any) -> tuple[Any, dict[Any, str]]:
    """Trace a forward pass.

    Returns:
        Torch-Pruning's dependency graph; and for those of its ends that are no outputs of the
        network, by autograd node, the name of the module that they go into.

    Raises:
        UserError: The package torch-pruning is not installed.
        Exception: Whatever a network raises that cannot be traced.
    """
    try:
        tp = importlib.import_module("torch_pruning")
    except ImportError as error:
        raise UserError(
            "shrinking needs the package torch-pruning: pip install -e '.[shrink]'"
        ) from error
    graph, ends = tp.DependencyGraph(), _Ends()
    build = graph._build_dependency
    heads = any(_has_heads(module) for module in model.modules())

    def build_known(nodes: Any) -> None:
        build(nodes)
        for node in nodes.values():
            if is_unknown(node, attention=heads):
                node.dependencies = []

    graph._build_dependency = build_known
    with torch.enable_grad(), ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, _OPAQUE):
                ends.watch(name, module, hooks)
            elif isinstance(module, _NORMS):
                hooks.callback(module.register_forward_hook(_as_one).remove)
        graph.build_dependency(
            model,
            arguments,
            forward_fn=call_model,
            output_transform=ends.of,
            verbose=False,
        )
    return graph, ends.into


class _One(torch.autograd.Function):
    """A module's output, of which the graph sees one operation on its input."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, outputs: Tensor) -> Tensor:
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None


def _as_one(module: nn.Module, places: Any, outputs: Tensor) -> Any:
    if not places:
        return outputs
    return _One.apply(places[0], outputs.detach())  # type: ignore[no-untyped-call]


def _has_heads(module: nn.Module) -> bool:
    return any(isinstance(getattr(module, name, None), int) for name in HEAD_COUNTS)


class _Ends:
    """Tensors where the graph ends: outputs, and inputs of modules that cannot be looked into."""

    def __init__(self) -> None:
        self._taken: list[tuple[str, Tensor]] = []
        self.into: dict[Any, str] = {}

    def watch(self, name: str, module: nn.Module, hooks: ExitStack) -> None:
        """End the graph before a module, and begin again after it."""
        kind = f"{type(module).__name__} {name}"

        def take(_: nn.Module, places: Any, words: Any) -> None:
            self._taken += [(kind, tensor) for tensor in tensors_in([places, words])]

        def begin(_: nn.Module, places: Any, outputs: Any) -> Any:
            return _detached(outputs)

        hooks.callback(module.register_forward_pre_hook(take, with_kwargs=True).remove)
        hooks.callback(module.register_forward_hook(begin).remove)

    def of(self, outputs: Any) -> list[Tensor]:
        """Copies of them, so that a layer whose outputs they are has an end after it."""
        found = [("", tensor) for tensor in tensors_in(outputs)] + self._taken
        ends = []
        for kind, tensor in found:
            if tensor.grad_fn is not None:
                ends.append(tensor.clone())
                if kind:
                    self.into[ends[-1].grad_fn] = kind
        return ends


def _detached(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.detach()
    if isinstance(outputs, tuple | list):
        return type(outputs)(_detached(part) for part in outputs)
    return outputs


def count_calls(model: nn.Module, arguments: Any) -> dict[nn.Module, int]:
    """How often each module is used in one forward pass."""
    calls: dict[nn.Module, int] = {}

    def count(module: nn.Module, *_: Any) -> None:
        calls[module] = calls.get(module, 0) + 1

    with torch.no_grad(), ExitStack() as hooks:
        for module in model.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # they take no hooks
                hooks.callback(module.register_forward_hook(count).remove)
        call_model(model, arguments)
    return calls


def all_groups(graph: Any) -> Iterator[tuple[nn.Module, Any]]:
    """The layers that make channels, each with the group of what belongs to them, or an error.

    As Torch-Pruning's `get_all_groups`, which ends at the first error.
    """
    tp = importlib.import_module("torch_pruning")
    seen: set[nn.Module] = set()
    for module in list(graph.module2node):
        if not isinstance(module, (tp.ops.TORCH_CONV, nn.Linear)) or module in seen:
            continue
        pruner = graph.get_pruner_of_module(module)
        seen.add(module)
        try:
            count = pruner.get_out_channels(module)
            group = graph.get_pruning_group(module, pruner.prune_out_channels, list(range(count)))
        except Exception as error:  # whatever the package meets
            yield module, error
            continue
        makes: Callable[[Any], bool] = graph.is_out_channel_pruning_fn
        seen |= {dep.target.module for dep, _ in group if makes(dep.handler)}
        yield module, group
