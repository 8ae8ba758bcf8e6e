"""nncf: weight compression and quantisation through OpenVINO, and its own pruning."""

import logging

import nncf
import numpy as np
import onnx
import openvino
import torch
from common import example, row, share
from nncf.parameters import PruneMode
from onnx import helper, numpy_helper

TOOL = "nncf"
nncf.set_log_level(logging.ERROR)
core = openvino.Core()
PLAIN = {"INFERENCE_PRECISION_HINT": "f32"}
draw = np.random.default_rng(0)
matrix = draw.normal(size=(64, 128)).astype(np.float32)
matrix[draw.random(matrix.shape) < 0.5] = 0
matrix[:, :16] = 0  # dead outputs
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "one",
    [helper.make_tensor_value_info("x", 1, [64, 64])],
    [helper.make_tensor_value_info("y", 1, [64, 128])],
    [numpy_helper.from_array(matrix, "w")],
)
opset = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), "matrix.onnx")
MODES = (
    "INT8_SYM",
    "INT8_ASYM",
    "INT4_SYM",
    "INT4_ASYM",
    "INT3_SYM",
    "INT2_SYM",
    "NF4",
    "CB4",
    "MXFP4",
    "MXFP8_E4M3",
    "FP8_E4M3",
    "FP4",
    "NVFP4",
)
for mode in MODES:
    options = {"ratio": 1.0, "all_layers": True, "group_size": 16 if mode == "NVFP4" else 32}
    chosen = getattr(nncf.CompressWeightsMode, mode)
    try:
        model = nncf.compress_weights(
            core.read_model("matrix.onnx"), mode=chosen, **({} if "INT8" in mode else options)
        )
        back = core.compile_model(model, "CPU", PLAIN)(np.eye(64, dtype=np.float32))[0]
        answer = f"{share(back, matrix == 0)}; {'finite' if np.isfinite(back).all() else 'NaN'}"
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"[:80]
    row(TOOL, "half zero, dead outputs", f"zeros after compress_weights {mode}", answer)

x, _ = example("dead")
given = core.read_model("dead.onnx")
quantised = nncf.quantize(given, nncf.Dataset([x]), subset_size=1)
wanted = core.compile_model(given, "CPU", PLAIN)(x)[0]
seen = core.compile_model(quantised, "CPU", PLAIN)(x)[0]
off = float(np.linalg.norm(seen - wanted) / np.linalg.norm(wanted))
row(TOOL, "dead.onnx", "outputs after quantize", f"differ by {off:.3f}, finite")


class Network(torch.nn.Module):
    """An embedding, a linear layer, a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = torch.nn.Embedding(32, 16), torch.nn.Linear(16, 16)
        self.gru = torch.nn.GRU(16, 16, batch_first=True)

    def forward(self, tokens):
        return self.gru(self.linear(self.embedding(tokens)))[0]


from nncf.torch.function_hook.pruning.magnitude.algo import get_pruned_modules  # noqa: E402

tokens = torch.randint(0, 32, (2, 8))
pruned = nncf.prune(
    Network(), PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL, ratio=0.5, examples_inputs=(tokens,)
)
row(
    TOOL, "embedding, linear, GRU", "layers that prune masks", ", ".join(get_pruned_modules(pruned))
)
