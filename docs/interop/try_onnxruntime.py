"""onnxruntime: exported files, the optimised graph, its quantisers, sparse initializers."""

import logging

import numpy as np
import onnx
import onnxruntime
from common import example, row, same, share, size, speedup, times
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

TOOL = "onnxruntime"
logging.disable(logging.CRITICAL)


def session(path: str, optimised: str | None = None) -> onnxruntime.InferenceSession:
    """With one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if optimised:
        options.optimized_model_filepath = optimised
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def runner(path: str):
    """A call of one file on its example."""
    held, name = session(path), path.split(".")[0]
    given = {held.get_inputs()[0].name: example(name)[0]}
    return lambda: held.run(None, given)[0]


def matrices(path: str) -> list[np.ndarray]:
    """Filters and matrices of a file, largest first."""
    held = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer]
    return sorted((t for t in held if t.ndim > 1), key=lambda t: -t.size)


for name in ("conv", "shrunk", "nm", "bert"):
    row(TOOL, f"{name}.onnx", "loads", same(runner(f"{name}.onnx")(), example(name)[1]))
for name, dense in (("conv", "dense"), ("dead", "dense"), ("shrunk", "dense"), ("nm", "dense_mlp")):
    row(TOOL, f"{name}.onnx", "file", times(f"{dense}.onnx", f"{name}.onnx"))
    fast = speedup(runner(f"{dense}.onnx"), runner(f"{name}.onnx"))
    row(TOOL, f"{name}.onnx", "speed against dense", fast)
session("conv.onnx", "optimised.onnx")
before = sum(int((w == 0).sum()) for w in matrices("conv.onnx"))
after = sum(int((w == 0).sum()) for w in matrices("optimised.onnx"))
row(TOOL, "conv.onnx", "zeros in the optimised graph", f"{after} of {before}")

quantize_dynamic("nm.onnx", "dynamic.onnx", weight_type=QuantType.QInt8)
empty = matrices("nm.onnx")[0] == 0
codes = matrices("dynamic.onnx")[0].T  # it turns Gemm into MatMul
row(TOOL, "nm.onnx", "zeros after quantize_dynamic", share(codes, empty))
row(TOOL, "nm.onnx", "file after quantize_dynamic", times("nm.onnx", "dynamic.onnx"))


class Reader(CalibrationDataReader):
    """The example, once."""

    def __init__(self, name: str) -> None:
        self.batches = iter([{session(f"{name}.onnx").get_inputs()[0].name: example(name)[0]}])

    def get_next(self):
        return next(self.batches, None)


def static(path: str, *, per_channel: bool) -> str:
    quantize_static(
        path,
        "static.onnx",
        Reader(path.split(".")[0]),
        per_channel=per_channel,
        weight_type=QuantType.QInt8,
    )
    return "static.onnx"


for per_channel in (False, True):
    path = static("conv.onnx", per_channel=per_channel)
    empty = matrices("conv.onnx")[0] == 0
    text = f"zeros after quantize_static, per_channel={per_channel}"
    row(TOOL, "conv.onnx", text, share(matrices(path)[0], empty))

draw = np.random.default_rng(0)
weight = draw.normal(size=(4, 3, 3, 3)).astype(np.float32)
weight[0] = 0
pixels = draw.uniform(0, 255, (1, 3, 8, 8)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
    "filter",
    [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
    [helper.make_tensor_value_info("y", 1, [1, 4, 6, 6])],
    [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.full(4, 0.4, "f"), "b")],
)
opset = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), "filter.onnx")
np.savez("filter.npz", x=pixels, y=session("filter.onnx").run(None, {"x": pixels})[0])
for per_channel in (False, True):
    path = static("filter.onnx", per_channel=per_channel)
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    step = next(v for k, v in held.items() if k.startswith("b") and "scale" in k).ravel()[0]
    code = next(v for k, v in held.items() if k.startswith("b") and v.dtype == np.int32).ravel()[0]
    text = f"bias 0.4 of a dead filter after quantize_static, per_channel={per_channel}, pixels"
    row(TOOL, "a filter of zeros", text, f"{code * step:.4f}")

matrix = matrices("nm.onnx")[0].copy()
matrix[draw.random(matrix.shape) < 0.8] = 0  # 90 % zeros
places = np.flatnonzero(matrix).astype(np.int64)
sparse = helper.make_sparse_tensor(
    numpy_helper.from_array(matrix.ravel()[places], "w"),
    numpy_helper.from_array(places, "places"),
    matrix.shape,
)
for kind, initial in (
    ("plain", {"initializer": [numpy_helper.from_array(matrix, "w")]}),
    ("sparse", {"sparse_initializer": [sparse]}),
):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", 1, ["n", matrix.shape[0]])],
        [helper.make_tensor_value_info("y", 1, ["n", matrix.shape[1]])],
        **initial,
    )
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), f"{kind}.onnx")
x = draw.normal(size=(64, matrix.shape[0])).astype(np.float32)
np.savez("plain.npz", x=x, y=x @ matrix)
np.savez("sparse.npz", x=x, y=x @ matrix)
row(TOOL, "sparse_initializer, 90 %", "loads", same(runner("sparse.onnx")(), x @ matrix))
row(
    TOOL,
    "sparse_initializer, 90 %",
    "file",
    f"{size('sparse.onnx') / size('plain.onnx'):.2f} of the dense file",
)
fast = speedup(runner("plain.onnx"), runner("sparse.onnx"))
row(TOOL, "sparse_initializer, 90 %", "speed against dense", fast)
