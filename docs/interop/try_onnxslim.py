"""onnxslim: exported files before and after."""

import onnx
import onnxslim
from common import row, times
from small_graphs import check, sparse_file

TOOL = "onnxslim"


def slim(path: str, out: str) -> None:
    onnx.save(onnxslim.slim(onnx.load(path)), out)


for name in ("conv", "dead", "shrunk", "nm", "bert"):
    slim(f"{name}.onnx", "slim.onnx")
    check(TOOL, name, "slim.onnx")
    row(TOOL, f"{name}.onnx", "file", times(f"{name}.onnx", "slim.onnx"))
slim(sparse_file(), "slim.onnx")
counts = onnx.load("slim.onnx").graph
row(TOOL, "sparse_initializer", "kept", f"{len(counts.sparse_initializer)} of 1")
