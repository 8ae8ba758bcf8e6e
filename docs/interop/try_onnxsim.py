"""onnxsim: exported files before and after."""

import onnx
import onnxsim
from common import row, times
from small_graphs import check, sparse_file

TOOL = "onnxsim"
for name in ("conv", "dead", "shrunk", "nm", "bert"):
    onnx.save(onnxsim.simplify(onnx.load(f"{name}.onnx"))[0], "sim.onnx")
    check(TOOL, name, "sim.onnx")
    row(TOOL, f"{name}.onnx", "file", times(f"{name}.onnx", "sim.onnx"))
try:
    counts = onnxsim.simplify(onnx.load(sparse_file()))[0].graph
    row(TOOL, "sparse_initializer", "kept", f"{len(counts.sparse_initializer)} of 1")
except Exception as error:
    row(TOOL, "sparse_initializer", "kept", f"{type(error).__name__}: {error}"[:90])
