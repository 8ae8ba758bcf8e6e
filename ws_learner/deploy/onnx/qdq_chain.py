"""Layer chains for INT8 export, and the points where their values are quantised."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ws_learner.core import UserError
from ws_learner.deploy.runtime.quantisation import InputScale, RangeMethod, RangeObserver
from ws_learner.deploy.runtime.range_choice import least_moved

__all__ = ["ranges", "steps_of"]

_SAME_VALUES = (nn.MaxPool2d, nn.Flatten)
_BATCHES, _COMPARED = 32, 8


def steps_of(model: nn.Module) -> list[nn.Module]:
    """The layers in order, batch norms folded into the convolutions before them.

    Raises:
        UserError: There is a layer that this form has no place for.
    """
    found: list[nn.Module] = []
    for layer in _chain(copy.deepcopy(model).eval()):
        if found and _is_folded(found[-1], layer):
            found[-1] = fuse_conv_bn_eval(found[-1], layer)  # type: ignore[arg-type, type-var]
            continue
        if not _is_said(layer):
            raise UserError(
                f"INT8 ONNX: {type(layer).__name__} is not supported, only chains (nn.Sequential) "
                "of linear layers, zero-padded convolutions with batch norm, ReLU, GELU, "
                "max-pooling, global average pooling and Flatten; export float32, and quantise "
                "with the engine's own tools"
            )
        found.append(layer)
    if not any(isinstance(layer, nn.Linear | nn.Conv2d) for layer in found):
        raise UserError("INT8 ONNX: there is no linear layer or convolution in this network")
    return found


def _chain(model: nn.Module) -> list[nn.Module]:
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        return [part for child in model._modules.values() if child for part in _chain(child)]
    return [] if isinstance(model, nn.Identity | nn.Dropout) else [model]


def _is_folded(layer: nn.Module, after: nn.Module) -> bool:
    plain = type(layer) is nn.Conv2d and type(after) is nn.BatchNorm2d
    return plain and after.running_var is not None


def _is_said(layer: nn.Module) -> bool:
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if type(layer) is nn.GELU:
        return layer.approximate == "none"
    if type(layer) is nn.AdaptiveAvgPool2d:
        return layer.output_size in (1, (1, 1))
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) in (nn.Linear, nn.ReLU, nn.MaxPool2d)


def ranges(layers: list[nn.Module], data: Iterable[Tensor]) -> dict[int, InputScale]:
    """How values are rounded before the layers of these numbers; the last number is the end.

    The input of every layer with weights, and the output of every convolution (after its ReLU),
    without which engines leave it in float32.

    Raises:
        UserError: `data` holds nothing.
    """
    seen = {number: RangeObserver("percentile") for number in _places(layers)}
    batches = list(itertools.islice(data, _BATCHES))
    for x in batches:
        _watch(layers, x, seen)
    if not batches:
        raise UserError("calibration: holds no batch; give inputs like the example")

    def outputs(method: RangeMethod | None) -> Iterator[Tensor]:
        scales = {} if method is None else _settled(layers, seen, method)
        yield from (_rounded(layers, x, scales) for x in batches[:_COMPARED])

    return _settled(layers, seen, least_moved(outputs))


def _settled(
    layers: list[nn.Module], seen: dict[int, RangeObserver], method: RangeMethod
) -> dict[int, InputScale]:
    found: dict[int, InputScale] = {}
    for number, observer in sorted(seen.items()):
        before = number
        while before and isinstance(layers[before - 1], _SAME_VALUES):
            before -= 1
        # Bytes pass through max-pooling only if both sides mean the same by them.
        found[number] = found.get(before) or observer.settle(method)
    return found


def _places(layers: list[nn.Module]) -> set[int]:
    found = set()
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            found.add(number)
        if isinstance(layer, nn.Conv2d):
            after = number + 1
            found.add(after + (after < len(layers) and isinstance(layers[after], nn.ReLU)))
    return found


@torch.no_grad()
def _rounded(layers: list[nn.Module], x: Tensor, scales: dict[int, InputScale]) -> Tensor:
    """The chain's output with values rounded to bytes and back at these places."""
    for number, layer in enumerate([*layers, nn.Identity()]):
        x = layer(scales[number].rounded(x) if number in scales else x)
    return x


@torch.no_grad()
def _watch(layers: list[nn.Module], x: Tensor, seen: dict[int, RangeObserver]) -> None:
    for number, layer in enumerate([*layers, nn.Identity()]):
        if number in seen:
            seen[number].see(x)
        x = layer(x)
