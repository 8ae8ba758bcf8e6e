"""Engines of a deploy folder: the file that each reads, how it is written and opened."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ws_learner.core import UserError, check_choice, map_tensors, say, suggest
from ws_learner.deploy.onnx.export import export_onnx
from ws_learner.deploy.onnx.int8_qdq import export_qdq
from ws_learner.deploy.other_inputs import tensors_in
from ws_learner.deploy.runtime.acceptance import without_nesting
from ws_learner.deploy.runtime.architecture import describe
from ws_learner.deploy.runtime.compile import compile_sparse
from ws_learner.deploy.runtime.graph import with_holder
from ws_learner.deploy.runtime.load import load_sparse
from ws_learner.deploy.runtime.network_graph import export_program, record_graph

__all__ = ["ENGINES", "DeployEngine", "Request", "Run", "check_request", "open_file", "write_file"]

DeployEngine = Literal["wsr", "onnxruntime", "openvino", "torch"]
ENGINES: dict[str, str] = {
    "wsr": "model.wsr",
    "onnxruntime": "model.onnx",
    "openvino": "model.onnx",
    "torch": "model.pt2",
}
"""Engine -> the file that it reads."""
Run = Callable[[Sequence[npt.NDArray[Any]]], list[npt.NDArray[Any]]]
"""Arrays of the inputs, in order -> arrays of the outputs."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is written.

    Attributes:
        engine: That runs the network.
        dtype: Number format: `fp32`, `int8`, `auto`, or one for each layer.
        threads: That the engine uses.
        calibration: Batches that show the range of activations.
    """

    engine: DeployEngine
    dtype: str | Mapping[str, str]
    threads: int
    calibration: Sequence[Any]

    def __post_init__(self) -> None:
        check_choice(self.engine, DeployEngine, name="engine")


def check_request(
    engine: str,
    dtype: str | Mapping[str, str],
    *,
    threads: int,
    calibration: Iterable[Any] | None,
) -> Request:
    """Check engine, number format and threads, before any work.

    Raises:
        UserError: One is none, they do not go together, or a package is missing.
    """
    if engine not in ENGINES:
        raise UserError(f"`engine` {engine}: {suggest(engine, ENGINES)}")
    if isinstance(dtype, str) and dtype not in ("fp32", "int8", "auto"):
        raise UserError(f"`dtype` {dtype}: {suggest(dtype, ('fp32', 'int8', 'auto'))}")
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise UserError(f"`threads` {threads}: must be a whole number, at least 1")
    known = {"torch": ("fp32",), "onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "int8")}
    if engine in known and dtype not in known[engine]:
        given = dtype if isinstance(dtype, str) else "of each layer"
        raise UserError(
            f"`dtype` {given}: {engine} files are written as {' or '.join(known[engine])}; choose "
            "one, or `engine` wsr"
        )
    if engine in ("onnxruntime", "openvino"):
        try:
            importlib.import_module(engine)
        except ImportError as error:
            raise UserError(
                f"`engine` {engine}: is not installed, so the folder could not be tried; "
                f"pip install {engine}, or choose another engine"
            ) from error
    bytes_ = dtype != "fp32"
    return Request(
        engine=cast(DeployEngine, engine),
        dtype=dtype,
        threads=threads,
        calibration=list(calibration or ()) if bytes_ else [],
    )


def write_file(model: nn.Module, example: Any, path: Path, request: Request) -> dict[str, Any]:
    """Write the engine's file; return what is known of it, as JSON values.

    Raises:
        UserError: The engine cannot take the network; the line says which can.
    """
    if request.engine == "wsr":
        return _write_wsr(model, example, path, request)
    if request.engine == "torch":
        torch.export.save(export_program(model, example), path)
        return {}
    several = _two_examples(example)
    if request.dtype == "int8":
        data = request.calibration or [several]
        export_qdq(model, cast(Tensor, several), path, calibration=data)
    else:
        export_onnx(model, several, path)
    return {}


def _two_examples(example: Any) -> Any:
    """The exporter leaves the batch size open only if it sees more than one example."""
    return map_tensors(example, lambda x: torch.cat([x, x]) if x.dim() and len(x) == 1 else x)


def _write_wsr(model: nn.Module, example: Any, path: Path, request: Request) -> dict[str, Any]:
    network, given = without_nesting(model), example
    graph, formats = None, request.dtype
    if not isinstance(example, Tensor) or describe(with_holder(network)) is None:
        try:
            graph, network = record_graph(network, example)
        except UserError as error:
            raise UserError(f"`engine` wsr: {error}; choose `engine` onnxruntime") from error
        given = tuple(tensors_in(example))
        if isinstance(formats, Mapping):  # other layers have no kernels, and stay floats
            layers = {name for one in graph["layers"] for name in (one, f"{one}.weight")}
            formats = {name: kind for name, kind in formats.items() if name in layers}
    batches = [tuple(tensors_in(batch)) for batch in request.calibration]
    batches = _fitting(batches, network, given)
    compiled = compile_sparse(
        network,
        given,
        dtype=cast(Any, formats),
        calibration=batches or None,
        threads=request.threads,
    )
    if graph is not None:
        compiled.architecture = graph
    compiled.save(path)
    table = compiled.report()
    return {
        "speedup_over_dense_pytorch": round(float(compiled.speedup), 3),
        "kernels": dict(zip(table["layer"], table["kernel"], strict=True)),
    }


def _fitting(
    batches: list[tuple[Tensor, ...]], network: nn.Module, given: Any
) -> list[tuple[Tensor, ...]]:
    """The batches that the network takes; parts of the example's size if it takes no other."""

    def runs(batch: tuple[Tensor, ...]) -> bool:
        try:
            with torch.no_grad():
                network(*batch)
        except (RuntimeError, IndexError):
            return False
        return True

    if found := [batch for batch in batches if runs(batch)]:
        return found
    size = len(next(tensors_in(given)))
    parts = [
        part for one in batches for part in zip(*(torch.split(x, size) for x in one), strict=True)
    ]
    found = [part for part in parts if runs(part)]
    if batches and not found:
        say("`calibration`: no batch has the example's shape; ranges come from the example")
    return found


def open_file(path: Path, engine: DeployEngine, *, threads: int) -> Run:
    """Open a written file as the folder's loader does."""
    if engine in ("wsr", "torch"):
        network: Any = (
            load_sparse(path, threads=threads)
            if engine == "wsr"
            else torch.export.load(path).module()
        )

        def by_torch(arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
            with torch.no_grad():
                found = network(*map(torch.from_numpy, arrays))
            return [x.numpy() for x in (found if isinstance(found, tuple) else (found,))]

        return by_torch
    return _open_onnx(path, engine, threads=threads)


def _open_onnx(path: Path, engine: DeployEngine, *, threads: int) -> Run:
    if engine == "openvino":
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        network = openvino.Core().compile_model(str(path), "CPU", settings)

        def by_openvino(arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
            found = network(list(arrays))
            return [np.array(found[place]) for place in range(len(network.outputs))]

        return by_openvino
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def by_onnxruntime(arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        found: list[npt.NDArray[Any]] = session.run(None, dict(zip(names, arrays, strict=True)))
        return found

    return by_onnxruntime


assert set(ENGINES) == set(get_args(DeployEngine))
