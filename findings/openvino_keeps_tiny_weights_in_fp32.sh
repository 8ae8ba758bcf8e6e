#!/usr/bin/env bash
# openvino 2026.4.1: `save_model` leaves a weight in FP32 if three quarters of it are tiny, not zero.
#
# Guess: `compress_to_fp16`, which is the default, stores every weight in FP16. Seen: it does so for a
# matrix of which 76 % is zero, and for one of which 74 % is 1e-6. With 76 % of 1e-6 the matrix stays
# in FP32, without a line, and the file is twice as large. Weights that a penalty has driven close to
# zero, and that nobody has set to zero yet, are of that kind.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
from pathlib import Path

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper

core, seen = openvino.Core(), {}
for small, share in ((0.0, 0.76), (1e-6, 0.74), (1e-6, 0.76)):
    weight = np.random.default_rng(0).normal(size=(128, 64)).astype(np.float32)
    weight.ravel()[: int(share * weight.size)] = small
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "one_layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), "net.onnx")
    openvino.save_model(core.read_model("net.onnx"), "net.xml")
    seen[f"{share:.0%} of {small:g}"] = Path("net.bin").stat().st_size / weight.size
print("openvino", openvino.__version__)
print("bytes for each weight:", seen)
assert seen == {"76% of 0": 2, "74% of 1e-06": 2, "76% of 1e-06": 4}, seen
PYTHON
