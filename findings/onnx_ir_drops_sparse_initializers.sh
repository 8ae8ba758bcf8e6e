#!/usr/bin/env bash
# onnx-ir 1.1.0 with onnx 1.23.2 and onnxruntime 1.32.0: a round trip drops weights that are stored
# as `sparse_initializer`.
#
# Guess: `sparse_initializer`, part of ONNX since 2019, is kept by the library under PyTorch's
# exporter, as onnxruntime runs such files. Seen: onnxruntime does; `onnx_ir.from_proto` reads the
# model without an error (it logs that the input "cannot be found"), and `to_proto` writes one
# without the weights, which onnxruntime does not load. onnx's own strict shape inference refuses
# the original, too.
#
# Fails if these versions' behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" -W error - <<'PYTHON'
import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

draw = np.random.default_rng(0)
weight = draw.normal(size=(8, 16)).astype(np.float32)
weight[draw.random(weight.shape) < 0.75] = 0
places = np.flatnonzero(weight).astype(np.int64)
sparse = helper.make_sparse_tensor(
    numpy_helper.from_array(weight.ravel()[places], "weight"),
    numpy_helper.from_array(places, "places"),
    weight.shape,
)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "weight"], ["y"])],
    "one_layer",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
    sparse_initializer=[sparse],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
x = draw.normal(size=(3, 8)).astype(np.float32)
session = onnxruntime.InferenceSession(model.SerializeToString())
assert np.allclose(session.run(None, {"x": x})[0], x @ weight, atol=1e-5)

again = onnx_ir.to_proto(onnx_ir.from_proto(model))
counts = [len(again.graph.initializer), len(again.graph.sparse_initializer)]
print("weights after the round trip, dense and sparse:", counts)
assert counts == [0, 0], counts
try:
    onnxruntime.InferenceSession(again.SerializeToString())
    raise SystemExit("onnxruntime loaded it")
except Exception as error:
    print("onnxruntime on it:", str(error).splitlines()[0][:100])
try:
    onnx.shape_inference.infer_shapes(model, strict_mode=True)
    raise SystemExit("shape inference accepted the original")
except onnx.shape_inference.InferenceError as error:
    print("onnx's shape inference on the original:", str(error).splitlines()[0][:100])
PYTHON
