"""What onnxslim's and onnxsim's scripts share."""

import numpy as np
import onnx
import onnxruntime
from common import example, row, same
from onnx import helper, numpy_helper


def matrices(path: str) -> dict[str, np.ndarray]:
    """Filters and matrices by name."""
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    return {name: values for name, values in held.items() if values.ndim > 1}


def check(tool: str, name: str, path: str) -> None:
    """Outputs, zeros, shapes and names of a changed file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x, y = example(name)
    seen = session.run(None, {session.get_inputs()[0].name: x})[0]
    row(tool, f"{name}.onnx", "loads", same(seen, y))
    before, after = matrices(f"{name}.onnx"), matrices(path)
    zeros = [sum(int((w == 0).sum()) for w in held.values()) for held in (after, before)]
    row(tool, f"{name}.onnx", "zeros", f"{zeros[0]} of {zeros[1]}")
    shapes = [sorted(w.shape for w in held.values()) for held in (after, before)]
    row(tool, f"{name}.onnx", "shapes", "as before" if shapes[0] == shapes[1] else str(shapes[0]))
    lost = set(before) - set(after)
    row(tool, f"{name}.onnx", "names of weights", f"{len(lost)} of {len(before)} are others")


def sparse_file() -> str:
    """A file with one weight as sparse_initializer."""
    matrix = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    places = np.arange(0, 128, 4)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(matrix.ravel()[places], "w"),
        numpy_helper.from_array(places, "places"),
        matrix.shape,
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", 1, ["n", 8])],
        [helper.make_tensor_value_info("y", 1, ["n", 16])],
        sparse_initializer=[sparse],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), "sparse_one.onnx")
    return "sparse_one.onnx"
