"""Networks as INT8 ONNX in the form that engines fuse: QDQ around each matrix product.

Engines fuse QDQ only in one form: DequantizeLinear - Gemm - Relu - QuantizeLinear, the weight
int8 with a scale per output, the bias int32 with the scale of the products. MatMul and Add are
not fused by ONNX Runtime 1.31 and run three to fifty times slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.errors import UserError
from ws_learner.export.onnx_file import need
from ws_learner.files import write_bytes
from ws_learner.runtime.quantisation import InputScale, Observer, quantise_weight

__all__ = ["export_qdq"]

_OPSET = 18


def export_qdq(
    model: nn.Module, example: Tensor, path: Path | str, *, calibration: Iterable[Tensor]
) -> None:
    """Write an `nn.Sequential` of linear layers, ReLUs and GELUs with bytes inside.

    Args:
        model: The network; a single linear layer counts too.
        example: (B, K) input; B is left open.
        path: The file.
        calibration: Inputs that the ranges of activations are read from.

    Raises:
        UserError: The network is made of other layers, or packages are missing.
    """
    need("onnx")
    from onnx import TensorProto, checker, helper, numpy_helper

    layers = _chain(model)
    scales = _ranges(layers, calibration)
    nodes: list[Any] = []
    initial: list[Any] = []

    def constant(name: str, value: np.ndarray) -> str:
        initial.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **settings: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **settings))
        return output

    x = "input"
    for number, layer in enumerate(layers):
        tag = f"layer{number}"
        if isinstance(layer, nn.ReLU):
            x = node("Relu", [x], tag)
            continue
        if isinstance(layer, nn.GELU):
            x = node("Gelu", [x], tag)
            continue
        source, layer = scales[number], cast(nn.Linear, layer)
        weight, steps = quantise_weight(layer.weight.detach().float().numpy())
        range_ = [
            constant(f"{tag}_scale", np.array(source.scale, np.float32)),
            constant(f"{tag}_zero", np.array(source.zero, np.uint8)),
        ]
        x = node("QuantizeLinear", [x, *range_], f"{tag}_q")
        x = node("DequantizeLinear", [x, *range_], f"{tag}_dq")
        own = [constant(f"{tag}_w", weight), constant(f"{tag}_ws", steps)]
        own.append(constant(f"{tag}_wz", np.zeros(len(steps), np.int8)))
        w = node("DequantizeLinear", own, f"{tag}_wdq", axis=0)
        joint = (steps * np.float32(source.scale)).astype(np.float32)
        bias = np.zeros(len(steps)) if layer.bias is None else layer.bias.detach().double().numpy()
        whole = np.clip(np.rint(bias / joint), -(2**31) + 1, 2**31 - 1).astype(np.int32)
        shift = [constant(f"{tag}_b", whole), constant(f"{tag}_bs", joint)]
        shift.append(constant(f"{tag}_bz", np.zeros(len(steps), np.int32)))
        b = node("DequantizeLinear", shift, f"{tag}_bdq", axis=0)
        x = node("Gemm", [x, w, b], tag, transB=1)
    last = next(layer for layer in reversed(layers) if isinstance(layer, nn.Linear))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", example.shape[1]])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", last.out_features])],
        initial,
    )
    opset = 20 if any(isinstance(layer, nn.GELU) for layer in layers) else _OPSET
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    checker.check_model(proto)
    write_bytes(Path(path), proto.SerializeToString())


def _chain(model: nn.Module) -> list[nn.Module]:
    if isinstance(model, nn.Sequential):
        return [part for child in model.children() for part in _chain(child)]
    if isinstance(model, nn.Identity | nn.Dropout):
        return []
    exact = not isinstance(model, nn.GELU) or model.approximate == "none"
    if isinstance(model, nn.Linear | nn.ReLU | nn.GELU) and exact:
        return [model]
    raise UserError(
        f"INT8 ONNX: {type(model).__name__} is not supported, only nn.Sequential of linear "
        "layers, ReLU and GELU; export float32, and quantise with the engine's own tools"
    )


@torch.no_grad()
def _ranges(layers: list[nn.Module], data: Iterable[Tensor]) -> dict[int, InputScale]:
    seen = {i: Observer() for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)}
    for x in data:
        for number, layer in enumerate(layers):
            if number in seen:
                seen[number].see(x)
            x = layer(x)
    return {number: observer.settle() for number, observer in seen.items()}
