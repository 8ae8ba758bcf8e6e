"""OpenVINO: exported files, FP16 files, dead channels with an open and a fixed batch."""

from pathlib import Path

import numpy as np
import onnx
import openvino
from common import example, row, same, speedup, times
from onnx import helper, numpy_helper

TOOL = "openvino"
core = openvino.Core()
PLAIN = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}


def compiled(path: str, *, fixed: bool = False):
    model = core.read_model(path)
    if fixed:
        model.reshape(example(path.split("/")[-1])[0].shape)
    return core.compile_model(model, "CPU", PLAIN)


def runner(path: str, *, fixed: bool = False):
    """A call of one file on its example."""
    request = compiled(path, fixed=fixed).create_infer_request()
    x = example(path)[0]
    return lambda: request.infer([x])[0]


def constants(path: str) -> dict[str, np.ndarray]:
    """Filters and matrices, as floats, with the type they are stored in."""
    held = {}
    for node in core.read_model(path).get_ops():
        if node.get_type_name() == "Constant" and len(node.get_output_shape(0)) > 1:
            held[f"{node.get_friendly_name()} {node.get_element_type()}"] = node.data.astype("f")
    return held


for name in ("conv", "shrunk", "nm", "bert"):
    row(TOOL, f"{name}.onnx", "loads", same(runner(f"{name}.onnx")(), example(name)[1]))
for name, dense in (("conv", "dense"), ("dead", "dense"), ("shrunk", "dense"), ("nm", "dense_mlp")):
    for fixed in (False, True):
        fast = speedup(runner(f"{dense}.onnx", fixed=fixed), runner(f"{name}.onnx", fixed=fixed))
        text = f"speed against dense, batch {'fixed' if fixed else 'open'}"
        row(TOOL, f"{name}.onnx", text, fast)


def widths(path: str, *, fixed: bool) -> str:
    """Shapes of the weights that are used, without those of one number."""
    graph = compiled(path, fixed=fixed).get_runtime_model()
    shapes = [
        str(node.get_output_partial_shape(0))
        for node in graph.get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Const"
    ]
    return " ".join(s for s in shapes if s.count(",") == 3)


for fixed in (False, True):
    text = f"filters when compiled, batch {'fixed' if fixed else 'open'}"
    row(TOOL, "dead.onnx", text, widths("dead.onnx", fixed=fixed))

openvino.save_model(core.read_model("conv.onnx"), "conv.xml")
openvino.save_model(core.read_model("dense.onnx"), "dense.xml")
before = [w for w in constants("conv.xml").values()]
plain = [numpy_helper.to_array(t) for t in onnx.load("conv.onnx").graph.initializer]
wanted = sum(int((w == 0).sum()) for w in plain if w.ndim == 4)
kept = sum(int((w == 0).sum()) for w in before if w.ndim == 4)
row(TOOL, "conv.onnx", "zeros after save_model (FP16)", f"{kept} of {wanted}")
row(TOOL, "conv.onnx", "file after save_model (FP16)", times("conv.onnx", "conv.bin"))

draw = np.random.default_rng(0)
for part in (0.5, 0.76):
    for small in (1e-5, 1.1e-5, 1e-6, 1e-7, 2e-8):
        matrix = draw.normal(size=(128, 64)).astype(np.float32)
        matrix.ravel()[: int(part * matrix.size)] = small
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "one",
            [helper.make_tensor_value_info("x", 1, [1, 128])],
            [helper.make_tensor_value_info("y", 1, [1, 64])],
            [numpy_helper.from_array(matrix, "w")],
        )
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), "small.onnx")
        openvino.save_model(core.read_model("small.onnx"), "small.xml")
        name, held = next(iter(constants("small.xml").items()))
        answer = f"stored as {name.split()[-1].strip(chr(39) + '<>')}, {held.ravel()[0]:.3g}"
        row(TOOL, f"{part:.0%} of a matrix {small:g}", "after save_model", answer)

places = np.arange(0, 128 * 64, 4)
sparse = helper.make_sparse_tensor(
    numpy_helper.from_array(matrix.ravel()[places], "w"),
    numpy_helper.from_array(places, "places"),
    matrix.shape,
)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "one",
    [helper.make_tensor_value_info("x", 1, [1, 128])],
    [helper.make_tensor_value_info("y", 1, [1, 64])],
    sparse_initializer=[sparse],
)
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), "sparse.onnx")
try:
    core.read_model("sparse.onnx")
    row(TOOL, "sparse_initializer", "loads", "yes")
except Exception as error:
    row(TOOL, "sparse_initializer", "loads", f"NO, {type(error).__name__}")
for name in ("conv", "dense", "small"):
    for end in (".xml", ".bin"):
        Path(name + end).unlink(missing_ok=True)
