"""Dense engines that a sparse layer or network is held against: PyTorch, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["fp32_rivals", "int8_rivals", "onnx_bytes"]

Run = Callable[[], object]


def onnx_bytes(model: nn.Module, x: Tensor, *, int8: bool, ranges: Iterable[Tensor] = ()) -> bytes:
    """The network as ONNX: plain, or with QDQ around each Gemm.

    Args:
        model: An `nn.Sequential` of linear layers and ReLUs for `int8`.
        x: (B, K) example.
        int8: Quantise.
        ranges: Calibration inputs; `x` by default.
    """
    from ws_learner.export.onnx_file import export_onnx
    from ws_learner.export.onnx_qdq import export_qdq

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        if int8:
            export_qdq(model, x, path, calibration=list(ranges) or [x])
        else:
            export_onnx(model, x, path)
        return path.read_bytes()


def fp32_rivals(model: nn.Module, x: Tensor) -> dict[str, Run]:
    """Engines in float32, by name; missing packages are left out."""
    runs: dict[str, Run] = {"torch": lambda: _call(model, x)}
    data = onnx_bytes(model, x, int8=False)
    return runs | _engines(data, x)


def int8_rivals(model: nn.Module, x: Tensor) -> dict[str, Run]:
    """Engines in bytes, and PyTorch's own oneDNN layer."""
    from ws_learner.runtime.network import find_sites, layer_data, observers

    sites = find_sites(model)
    seen = observers(model, sites, [x], "minmax")
    layers = []
    for site in sites:
        run = layer_data(site, seen[site.name]).rival("dense int8")
        if run is None:
            return _engines(onnx_bytes(model, x, int8=True), x)
        layers.append(run)

    def torch_run() -> object:
        y = x
        for layer in layers:
            y = layer(y)
        return y

    return {"torch": torch_run} | _engines(onnx_bytes(model, x, int8=True), x)


def _call(model: nn.Module, x: Tensor) -> object:
    with torch.no_grad():
        return model(x)


def _engines(data: bytes, x: Tensor) -> dict[str, Run]:
    runs = {}
    for name, make in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        try:
            runs[name] = make(data, np.ascontiguousarray(x.numpy()))
        except ImportError:
            continue
    return runs


def _onnxruntime(data: bytes, x: np.ndarray) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})


def _openvino(data: bytes, x: np.ndarray) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    network = core.read_model(data, b"")
    network.reshape(list(x.shape))
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda: request.infer([x], share_inputs=True, share_outputs=True)
