"""Networks in wrappers, and layers whose weight is computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

__all__ = ["NETS"]


def _layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))


def _rows() -> Tensor:
    return torch.randn(4, 6)


def _after(change: Callable[[nn.Sequential], nn.Module]) -> Callable[[], tuple[nn.Module, Any]]:
    return lambda: (change(_layers()), _rows())


def _on_middle(change: Callable[[nn.Linear], nn.Module]) -> Callable[[], tuple[nn.Module, Any]]:
    def build() -> tuple[nn.Module, Any]:
        layers = _layers()
        middle = layers[2]
        assert isinstance(middle, nn.Linear)
        layers[2] = change(middle)
        return layers, _rows()

    return build


def _quantised(layers: nn.Sequential) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(layers, {nn.Linear})


def _old_norm(layer: nn.Linear) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer)


def _scripted(layers: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted: nn.Module = torch.jit.script(layers)
        return scripted


def _traced(layers: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced: nn.Module = torch.jit.trace(layers, _rows())
        return traced


def _compiled(layers: nn.Module) -> nn.Module:
    compiled: Any = torch.compile(layers, backend="eager")
    whole: nn.Module = compiled
    return whole


def _hooked(layers: nn.Sequential) -> nn.Module:
    layers[2].register_forward_hook(lambda module, given, out: out * 2)
    return layers


def _own_forward(layers: nn.Sequential) -> nn.Module:
    first = layers[0]
    plain = first.forward
    first.forward = lambda x: plain(x) * 2  # type: ignore[method-assign]
    return layers


NETS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "weight norm": _on_middle(nn.utils.parametrizations.weight_norm),
    "spectral norm": _on_middle(nn.utils.parametrizations.spectral_norm),
    "weight norm by hooks": _on_middle(_old_norm),
    "pruned by torch.nn.utils.prune": _on_middle(
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5)
    ),
    "quantised layers": _after(_quantised),
    "a scripted network": _after(_scripted),
    "a scripted layer": _on_middle(_scripted),
    "a traced network": _after(_traced),
    "torch.compile": _after(_compiled),
    "torch.compile of a layer": _on_middle(_compiled),
    "DataParallel": _after(nn.DataParallel),
    "DataParallel of torch.compile": _after(lambda layers: nn.DataParallel(_compiled(layers))),
    "hooks that change outputs": _after(_hooked),
    "a replaced forward": _after(_own_forward),
    "a lazy layer": _after(lambda layers: nn.Sequential(layers, nn.LazyLinear(4))),
}
