"""Finished networks as calls without arguments, one for each engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import Inputs, UserError, map_tensors
from ws_learner.deploy.costs.formats import Formats
from ws_learner.deploy.onnx.export import export_onnx, values_of
from ws_learner.deploy.onnx.int8_qdq import export_qdq
from ws_learner.deploy.runtime.acceptance import without_nesting
from ws_learner.deploy.runtime.compile import compile_sparse
from ws_learner.deploy.runtime.graph import arguments, call, checked

__all__ = ["NetworkRun", "network_run", "onnx_session", "openvino_request"]

Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class NetworkRun:
    """A network in an engine.

    Attributes:
        run: Runs it once on the example.
        how: What it runs by, in a word or two.
    """

    run: Run
    how: str


def network_run(
    model: nn.Module,
    inputs: Inputs,
    *,
    engine: str,
    formats: Formats,
    threads: int,
    calibration: Iterable[Any] | None,
) -> NetworkRun:
    """The network as this engine runs it; `model` is not changed.

    Raises:
        UserError: The engine cannot run it, or not in these formats.
    """
    if engine == "wsr":
        return _compiled(model, inputs, formats, threads, calibration)
    if engine == "torch":
        if formats.has_int8:
            raise UserError(
                "`dtype` int8: PyTorch runs the float32 network; use the engine wsr, onnxruntime "
                "or openvino"
            )
        dense, given = without_nesting(model), checked(inputs, "example_inputs")
        return NetworkRun(run=lambda: call(dense, given), how="PyTorch")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        _write(model, inputs, path, formats, calibration)
        start = {"onnxruntime": onnx_session, "openvino": openvino_request}[engine]
        return NetworkRun(run=start(path, inputs, threads=threads), how="ONNX")


def _compiled(
    model: nn.Module,
    inputs: Inputs,
    formats: Formats,
    threads: int,
    calibration: Iterable[Any] | None,
) -> NetworkRun:
    data = [inputs] if calibration is None else calibration
    fast = compile_sparse(
        model, inputs, dtype=formats.for_compile(), calibration=data, threads=threads
    )
    places, words = arguments(checked(inputs, "example_inputs"))
    how = "dense" if fast.dense else "compiled"
    return NetworkRun(run=lambda: fast(*places, **words), how=how)


def _write(
    model: nn.Module,
    inputs: Inputs,
    path: Path,
    formats: Formats,
    calibration: Iterable[Any] | None,
) -> None:
    """Write the file that is shipped: the number of examples stays open where that is possible."""
    if not formats.has_int8:
        export_onnx(model, _two_examples(inputs), path)
        return
    if formats.uniform is None:
        raise UserError(
            "`dtype`: int8 for some layers only is what the engine wsr does; give one format for "
            "all layers to ONNX Runtime and OpenVINO"
        )
    if not isinstance(inputs, Tensor):
        raise UserError("`dtype` int8: INT8 ONNX takes networks with one input; use the engine wsr")
    data = [x if isinstance(x, Tensor) else x[0] for x in (calibration or [inputs])]
    export_qdq(model, inputs, path, calibration=data)


def _two_examples(inputs: Inputs) -> Any:
    """The exporter takes a single example as a fixed number of them."""
    sizes = {x.shape[0] for x in values_of(inputs) if x.dim()}
    if sizes != {1}:
        return inputs
    return map_tensors(inputs, lambda x: torch.cat([x, x]) if x.dim() else x)


def onnx_session(path: Path, inputs: Inputs, *, threads: int) -> Run:
    """ONNX Runtime on the CPU; with one thread it works in the calling one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    feed = {n: x.detach().numpy() for n, x in zip(names, values_of(inputs), strict=True)}
    return lambda: session.run(None, feed)


def openvino_request(path: Path, inputs: Inputs, *, threads: int) -> Run:
    """OpenVINO on the CPU, one call at a time; in float32 where the file does not say bytes."""
    import openvino

    settings: Mapping[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    network: Any = openvino.Core().compile_model(str(path), "CPU", settings)
    request = network.create_infer_request()
    values = [x.detach().numpy() for x in values_of(inputs)]
    return lambda: request.infer(values, share_inputs=True)
