"""One dense layer in an engine, as a call without arguments."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ws_learner.core import UserError, check_settings

__all__ = ["LAYER_ENGINES", "LayerShape", "layer_ms", "least_seconds", "session_of"]

LAYER_ENGINES = ("onnxruntime", "openvino", "torch")
_COPIES = 4
_FILL = 2e-3
Run = Callable[[], object]


@dataclass(frozen=True)
class LayerShape:
    """A layer without its numbers of channels.

    Attributes:
        kind: `conv`, `depthwise` (each channel by itself) or `linear`.
        outer: (batch, *spatial) of the inputs of a convolution; (rows,) of a linear layer.
        kernel: Size along each spatial axis.
        stride: Likewise.
        padding: Likewise, on both sides.
        dilation: Likewise.
    """

    kind: Literal["conv", "depthwise", "linear"]
    outer: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)

    def input_shape(self, inputs: int, outputs: int) -> tuple[int, ...]:
        """Shape of the inputs at some width."""
        width = outputs if self.kind == "depthwise" else inputs
        return (self.outer[0], width, *self.outer[1:])


def layer_ms(
    shape: LayerShape, inputs: int, outputs: int, *, engine: str, threads: int = 1
) -> float:
    """Milliseconds of a layer: what further copies of it, in one graph, add to its time.

    Copies read the same input, so that the engine's own costs of a call and of bringing the
    input into its memory layout drop out.

    Raises:
        UserError: The engine is unknown or missing.
    """
    single = _run(shape, inputs, outputs, 1, engine=engine, threads=threads)
    several = _run(shape, inputs, outputs, 1 + _COPIES, engine=engine, threads=threads)
    more = least_seconds(several, threads=threads) - least_seconds(single, threads=threads)
    return max(1e3 * more / _COPIES, 1e-6)


def least_seconds(run: Run, *, threads: int = 1) -> float:
    """Seconds of the fastest of the calls that fill 2 ms, five at least.

    With one thread the processor's time counts. OpenVINO works in a thread of its own, so the
    whole process's counts.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(2):
        run()
    least, begun, calls = float("inf"), clock(), 0
    while calls < 5 or (clock() - begun < _FILL and calls < 200):
        start = clock()
        run()
        least, calls = min(least, clock() - start), calls + 1
    return least


def _run(
    shape: LayerShape, inputs: int, outputs: int, copies: int, *, engine: str, threads: int
) -> Run:
    if engine == "torch":
        return _torch_run(shape, inputs, outputs, copies)
    graph = _graph(shape, inputs, outputs, copies)
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape.input_shape(inputs, outputs)).astype(np.float32)
    return session_of(graph, {"x": values}, engine=engine, threads=threads)


def session_of(graph: bytes | str, feed: dict[str, Any], *, engine: str, threads: int) -> Run:
    """A graph, or a file of one, in ONNX Runtime or OpenVINO.

    Raises:
        UserError: The engine is unknown or missing.
    """
    if engine not in LAYER_ENGINES:
        raise UserError(f"`engine` {engine!r}: must be one of {', '.join(LAYER_ENGINES)}")
    try:
        if engine == "onnxruntime":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
            return lambda: session.run(None, feed)
        import openvino
    except ImportError as error:
        raise UserError(f"`engine` {engine}: {error}; pip install {engine}") from error
    core: Any = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    request: Any = core.compile_model(core.read_model(graph), "CPU", settings)
    request = request.create_infer_request()
    given = list(feed.values())
    return lambda: request.infer(given, share_inputs=True)


def _torch_run(shape: LayerShape, inputs: int, outputs: int, copies: int) -> Run:
    if shape.kind == "linear":
        layers: list[nn.Module] = [nn.Linear(inputs, outputs) for _ in range(copies)]
    else:
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape.kernel) - 1]
        groups = outputs if shape.kind == "depthwise" else 1
        layers = [
            kind(
                outputs if shape.kind == "depthwise" else inputs,
                outputs,
                shape.kernel,  # type: ignore[arg-type]
                stride=shape.stride,  # type: ignore[arg-type]
                padding=shape.padding,  # type: ignore[arg-type]
                dilation=shape.dilation,  # type: ignore[arg-type]
                groups=groups,
            )
            for _ in range(copies)
        ]
    values = torch.randn(shape.input_shape(inputs, outputs))

    @torch.inference_mode()
    def run() -> None:
        for layer in layers:
            layer(values)

    return run


def _graph(shape: LayerShape, inputs: int, outputs: int, copies: int) -> bytes:
    """Copies of a layer on one input; each is reduced to a mean if it is a convolution."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    into = 1 if shape.kind == "depthwise" else inputs
    nodes, tensors, ends = [], [], []
    for copy in range(copies):
        weight = 0.05 * rng.standard_normal((outputs, into, *shape.kernel), dtype=np.float32)
        tensors.append(numpy_helper.from_array(weight, f"w{copy}"))
        tensors.append(numpy_helper.from_array(np.ones(outputs, np.float32), f"b{copy}"))
        given = ["x", f"w{copy}", f"b{copy}"]
        if shape.kind == "linear":
            nodes.append(helper.make_node("Gemm", given, [f"y{copy}"], transB=1))
            end: tuple[int, ...] = (shape.outer[0], outputs)
        else:
            words: dict[str, Any] = {
                "kernel_shape": list(shape.kernel),
                "strides": list(shape.stride),
                "pads": [*shape.padding, *shape.padding],
                "dilations": list(shape.dilation),
                "group": outputs if shape.kind == "depthwise" else 1,
            }
            nodes.append(helper.make_node("Conv", given, [f"c{copy}"], **words))
            nodes.append(helper.make_node("Relu", [f"c{copy}"], [f"r{copy}"]))
            nodes.append(helper.make_node("GlobalAveragePool", [f"r{copy}"], [f"y{copy}"]))
            end = (shape.outer[0], outputs, *(1 for _ in shape.kernel))
        ends.append(helper.make_tensor_value_info(f"y{copy}", TensorProto.FLOAT, end))
    begin = helper.make_tensor_value_info(
        "x", TensorProto.FLOAT, shape.input_shape(inputs, outputs)
    )
    graph = helper.make_graph(nodes, "layer", [begin], ends, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data
