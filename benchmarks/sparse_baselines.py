"""Dense baselines of a sparse layer or network: PyTorch, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["encoder_baselines", "fp32_baselines", "int8_baselines"]

Run = Callable[[], object]


def fp32_baselines(model: nn.Module, x: Tensor, *, engines_only: bool = False) -> dict[str, Run]:
    """Engines in float32, by name; missing packages are left out, PyTorch if not wanted."""
    runs: dict[str, Run] = {} if engines_only else {"torch": lambda: _call(model, x)}
    return runs | _engines(_onnx(model, x), x)


def encoder_baselines(model: nn.Module, words: Tensor) -> dict[str, dict[str, Run]]:
    """Of a network of word pieces (B, L).

    INT8: ONNX Runtime's dynamic quantisation, QDQ around every product with a weight (as OpenVINO
    wants it), and PyTorch's encoder with the fastest dense INT8 layers found by our trial.
    """
    from ws_learner.deploy import compile_sparse

    both = words.repeat(2, 1)  # the exporter leaves the batch open if it sees two examples
    data = _without_shapes(_onnx(model, both))
    layers = compile_sparse(model, words, dtype="int8", calibration=[words])
    int8: dict[str, Run] = {"torch, INT8 layers": lambda: layers(words)}
    for kind, run in _engines(_dynamic(data), words, only="onnxruntime").items():
        int8[f"{kind}, dynamic"] = run
    int8 |= _engines(_static(data, words), words)
    return {"fp32": {"torch": lambda: _call(model, words)} | _engines(data, words), "int8": int8}


def _onnx(model: nn.Module, x: Tensor) -> bytes:
    from ws_learner.deploy import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(model, x, path)
        return path.read_bytes()


def _without_shapes(data: bytes) -> bytes:
    """The exporter's notes on shapes in between contradict what quantisation infers."""
    import onnx

    graph = onnx.load_from_string(data)
    del graph.graph.value_info[:]
    whole: bytes = graph.SerializeToString()
    return whole


def _qdq(model: nn.Module, x: Tensor) -> bytes:
    from ws_learner.deploy import export_qdq

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_qdq(model, x, path, calibration=[x])
        return path.read_bytes()


def _dynamic(data: bytes) -> bytes:
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "network.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(data)
        quantize_dynamic(source, path, extra_options={"MatMulConstBOnly": True})
        return path.read_bytes()


def _static(data: bytes, words: Tensor) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"input_0": words.numpy()}]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "network.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(data)
        options = {"MatMulConstBOnly": True}
        kinds = ["MatMul", "Gemm"]
        quantize_static(
            *(source, path, Reader()), op_types_to_quantize=kinds, extra_options=options
        )
        return path.read_bytes()


def int8_baselines(model: nn.Module, x: Tensor) -> dict[str, Run]:
    """Engines in bytes, and PyTorch's own oneDNN layer."""
    from ws_learner.deploy import find_sites, layer_data, observers

    sites = find_sites(model)
    seen = observers(model, sites, [x], "minmax")
    layers = []
    for site in sites:
        run = layer_data(site, seen[site.name]).rival("dense int8")
        if run is None:
            return _engines(_qdq(model, x), x)
        layers.append(run)

    def torch_run() -> object:
        y = x
        for layer in layers:
            y = layer(y)
        return y

    return {"torch": torch_run} | _engines(_qdq(model, x), x)


def _call(model: nn.Module, x: Tensor) -> object:
    with torch.no_grad():
        return model(x)


def _engines(data: bytes, x: Tensor, *, only: str = "") -> dict[str, Run]:
    runs = {}
    for name, make in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        try:
            if only in ("", name):
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
