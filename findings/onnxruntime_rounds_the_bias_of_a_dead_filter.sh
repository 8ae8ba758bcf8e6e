#!/usr/bin/env bash
# onnxruntime 1.31.1: per-channel `quantize_static` rounds the bias of a filter of zeros to whole
# steps of its input.
#
# Guess: a filter whose weights are all zero gives its bias, which is stored in 32 bits and so as
# good as exact; per-channel scales can only be better than one for the tensor. Seen: a channel of
# zeros gets the scale 1. A bias is stored in steps of input scale x weight scale, so that of this
# filter has the steps of the input: for pixels of 0 to 255 a bias of 0.4 becomes 0. Per tensor it
# stays 0.4.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6 sympy==1.14.0
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

draw = np.random.default_rng(0)
weight = draw.normal(size=(4, 3, 3, 3)).astype(np.float32)
weight[0] = 0
bias = np.full(4, 0.4, np.float32)
pixels = [draw.uniform(0, 255, (1, 3, 8, 8)).astype(np.float32) for _ in range(8)]
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "weight", "bias"], ["y"])],
    "one_layer",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
    [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
)
onnx.save(
    helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "net.onnx"
)


class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": image} for image in pixels])

    def get_next(self):
        return next(self.batches, None)


seen = {}
for per_channel in (False, True):
    quantize_static(
        "net.onnx", "q.onnx", Reader(), per_channel=per_channel, weight_type=QuantType.QInt8
    )
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load("q.onnx").graph.initializer}
    steps = next(v for k, v in held.items() if "bias" in k and "scale" in k)
    code = next(v for k, v in held.items() if "bias" in k and "quantized" in k and v.dtype == np.int32)
    seen[per_channel] = float(code.ravel()[0] * steps.ravel()[0])
    print(f"per_channel={per_channel}: bias of the filter of zeros 0.4 -> {seen[per_channel]:.4f}")
print("onnxruntime", onnxruntime.__version__)
assert abs(seen[False] - 0.4) < 0.05 and seen[True] == 0, seen
PYTHON
