"""Networks as INT8 ONNX in the form that engines fuse: QDQ around each product of matrices.

Engines fuse QDQ only in one form: DequantizeLinear - Gemm or Conv - Relu - QuantizeLinear, the
weight int8 with a scale per output, the bias int32 with the scale of the products. A row that is
small beside its bias, or all zero, gets a larger scale, in which its bias fits. MatMul and Add
are not fused by ONNX Runtime 1.31 and run three to fifty times slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.core import AnyPath, UserError, as_path, write_bytes
from ws_learner.deploy.onnx.export import require_packages
from ws_learner.deploy.onnx.qdq_chain import ranges, steps_of
from ws_learner.deploy.runtime.quantisation import InputScale, least_scales, quantise_weight

__all__ = ["export_qdq"]

_OPSET = 18


def export_qdq(
    model: nn.Module, example: Tensor, path: AnyPath, *, calibration: Iterable[Tensor]
) -> None:
    """Write a chain of layers with INT8 weights and activations.

    The layers are linear ones, convolutions (batch norm after one is folded into it), ReLU, GELU,
    max-pooling, global average pooling and Flatten, in `nn.Sequential`.

    Args:
        model: The network; a single layer counts too.
        example: (B, K) or (B, C, H, W) input; B is left open.
        path: The file.
        calibration: Inputs that the ranges of activations are read from, at least one.

    Raises:
        UserError: The network is made of other layers, a weight or bias is not finite,
            `calibration` holds nothing, or packages are missing.
    """
    path = as_path(path)
    require_packages("onnx")
    from onnx import TensorProto, checker, helper

    layers = steps_of(model)
    scales = ranges(layers, calibration)
    graph, x = _Graph(), "input"
    for number, layer in enumerate(layers):
        if number in scales:
            x = graph.rounded(x, scales[number], tag=f"layer{number}")
        x = graph.layer(x, layer, scales.get(number), tag=f"layer{number}")
    if len(layers) in scales:
        x = graph.rounded(x, scales[len(layers)], tag="output")
    with torch.no_grad():
        shape = nn.Sequential(*layers)(example).shape
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes[1:]])
        for name, sizes in (("input", example.shape), (x, shape))
    ]
    whole = helper.make_graph(graph.nodes, "network", ends[:1], ends[1:], graph.constants)
    opset = 20 if any(isinstance(layer, nn.GELU) for layer in layers) else _OPSET
    proto = helper.make_model(whole, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    checker.check_model(proto)
    write_bytes(path, proto.SerializeToString())


class _Graph:
    """Nodes and constants of a file."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def _constant(self, name: str, value: Any, kind: type) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **settings: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **settings))
        return output

    def rounded(self, x: str, source: InputScale, *, tag: str) -> str:
        """QuantizeLinear and DequantizeLinear."""
        places = [
            self._constant(f"{tag}_scale", source.scale, np.float32),
            self._constant(f"{tag}_zero", source.zero, np.uint8),
        ]
        x = self._node("QuantizeLinear", [x, *places], f"{tag}_q")
        return self._node("DequantizeLinear", [x, *places], f"{tag}_dq")

    def layer(self, x: str, layer: nn.Module, source: InputScale | None, *, tag: str) -> str:
        """One layer; `source` says how the input of a layer with weights is rounded."""
        if isinstance(layer, nn.Linear | nn.Conv2d):
            assert source is not None
            inputs = [x, *self._weights(layer, source, tag)]
            if isinstance(layer, nn.Linear):
                return self._node("Gemm", inputs, tag, transB=1)
            settings = _window(layer) | {"group": layer.groups}
            return self._node("Conv", inputs, tag, **settings)
        if isinstance(layer, nn.MaxPool2d):
            return self._node("MaxPool", [x], tag, ceil_mode=int(layer.ceil_mode), **_window(layer))
        if isinstance(layer, nn.Flatten):
            return self._node("Flatten", [x], tag, axis=1)
        kinds: dict[type[nn.Module], str] = {
            nn.ReLU: "Relu",
            nn.GELU: "Gelu",
            nn.AdaptiveAvgPool2d: "GlobalAveragePool",
        }
        return self._node(kinds[type(layer)], [x], tag)

    def _weights(self, layer: nn.Linear | nn.Conv2d, source: InputScale, tag: str) -> list[str]:
        values = layer.weight.detach().float().numpy()
        if not np.isfinite(values).all():
            raise UserError(f"INT8 ONNX: a weight of {tag} is not finite; train the network again")
        bias = np.zeros(len(values)) if layer.bias is None else layer.bias.detach().double().numpy()
        least = least_scales(bias, source)
        whole, steps = quantise_weight(values.reshape(len(values), -1), least=least)
        joint = (steps * np.float32(source.scale)).astype(np.float32)
        shift = np.rint(bias / joint)
        made = []
        for name, value, scale, kind in (
            (f"{tag}_w", whole.reshape(values.shape), steps, np.int8),
            (f"{tag}_b", shift, joint, np.int32),
        ):
            parts = [self._constant(name, value, kind)]
            parts.append(self._constant(f"{name}s", scale, np.float32))
            parts.append(self._constant(f"{name}z", np.zeros(len(steps)), kind))
            made.append(self._node("DequantizeLinear", parts, f"{name}dq", axis=0))
        return made


def _window(layer: nn.Conv2d | nn.MaxPool2d) -> dict[str, list[int]]:
    high, wide = _pair(layer.padding)
    return {
        "kernel_shape": _pair(layer.kernel_size),
        "strides": _pair(layer.stride),
        "dilations": _pair(layer.dilation),
        "pads": [high, wide, high, wide],
    }


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(part) for part in value]
