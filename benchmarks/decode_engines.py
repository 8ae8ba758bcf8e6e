"""Dense engines with the linear layers and the head of SmolLM2, for `sparse_decode`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Run", "onnx_runtime", "openvino"]

Run = Callable[[], None]


def openvino(bits: int, tokens: int) -> Run:
    """Random dense weights in the shapes of SmolLM2; time does not depend on the values."""
    import openvino as ov
    from openvino import opset13 as op

    draw = np.random.default_rng(0)

    def product(x: Any, outputs: int, inputs: int) -> Any:
        if bits == 8:
            values = op.constant(draw.integers(-127, 128, (outputs, inputs), np.int8))
            scale = op.constant(np.full((outputs, 1), 1e-4, np.float32))
            weight = op.multiply(op.convert(values, ov.Type.f32), scale)
        else:
            raw = draw.integers(0, 256, outputs * inputs // 2, np.uint8)
            shape = [outputs, inputs // 64, 64]
            values = op.constant(ov.Tensor(raw, shape, ov.Type.u4))
            eight = op.constant(np.full((outputs, inputs // 64, 1), 8, np.float32))
            scale = op.constant(np.full((outputs, inputs // 64, 1), 1e-3, np.float32))
            centred = op.subtract(op.convert(values, ov.Type.f32), eight)
            whole = np.array([outputs, inputs])
            weight = op.reshape(op.multiply(centred, scale), op.constant(whole), False)
        return op.matmul(x, weight, False, True)

    def cut(x: Any, first: int, last: int) -> Any:
        ends = [op.constant(np.array([n])) for n in (first, last, 1, 1)]
        return op.slice(x, *ends)

    given = op.parameter([1, 576], np.float32)
    hidden = given
    for _ in range(30):
        mixed = cut(product(hidden, 960, 576), 0, 576)
        hidden = op.add(hidden, product(mixed, 576, 576))
        both = product(hidden, 3072, 576)
        gated = op.multiply(op.swish(cut(both, 0, 1536)), cut(both, 1536, 3072))
        hidden = op.add(hidden, product(gated, 576, 1536))
    network = ov.Model([product(hidden, 49152, 576)], [given])
    options = {
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "64",
    }
    request = ov.Core().compile_model(network, "CPU", options).create_infer_request()
    request.set_input_tensor(ov.Tensor(np.ones((1, 576), np.float32)))

    def run() -> None:
        for _ in range(tokens):
            request.infer()

    return run


def onnx_runtime(bits: int, tokens: int) -> Run:
    """`MatMulNBits` with random dense weights in groups of 64; `accuracy_level` 4 is bytes."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    nodes: list[Any] = []
    constants: list[Any] = []

    def name() -> str:
        return f"t{len(nodes)}"

    def add(kind: str, *inputs: str, **options: Any) -> str:
        made = name()
        nodes.append(helper.make_node(kind, list(inputs), [made], **options))
        return made

    def constant(values: Any) -> str:
        constants.append(numpy_helper.from_array(values, f"c{len(constants)}"))
        return str(constants[-1].name)

    def product(x: str, outputs: int, inputs: int) -> str:
        raw = draw.integers(0, 256, (outputs, inputs // 64, 64 * bits // 8), np.uint8)
        scales = np.full(outputs * inputs // 64, 1e-3, np.float32)
        sizes = {"K": inputs, "N": outputs, "bits": bits, "block_size": 64, "accuracy_level": 4}
        given = (x, constant(raw), constant(scales))
        return add("MatMulNBits", *given, domain="com.microsoft", **sizes)

    def cut(x: str, first: int, last: int) -> str:
        return add("Slice", x, *(constant(np.array([n])) for n in (first, last, 1)))

    hidden = "x"
    for _ in range(30):
        mixed = cut(product(hidden, 960, 576), 0, 576)
        hidden = add("Add", hidden, product(mixed, 576, 576))
        both = product(hidden, 3072, 576)
        gate = cut(both, 0, 1536)
        gated = add("Mul", add("Mul", gate, add("Sigmoid", gate)), cut(both, 1536, 3072))
        hidden = add("Add", hidden, product(gated, 576, 1536))
    last = product(hidden, 49152, 576)
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 576])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, 49152])],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    given = {"x": np.ones((1, 576), np.float32)}

    def run() -> None:
        for _ in range(tokens):
            session.run(None, given)

    return run
