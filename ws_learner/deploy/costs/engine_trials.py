"""Times of single layers in engines that do not leave out zeros."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import NumberFormat, UserError
from ws_learner.deploy.costs.layer_times import LayerTimes
from ws_learner.deploy.costs.network_runs import onnx_session, openvino_request
from ws_learner.deploy.costs.specimens import Specimen
from ws_learner.deploy.costs.timing import time_runs
from ws_learner.deploy.onnx.export import export_onnx
from ws_learner.deploy.onnx.int8_qdq import export_qdq

__all__ = ["empty_call_ms", "engine_times"]

_LEAST_SHARE = 0.02  # of a call's own time, where a layer takes no longer than an empty call
_START: dict[str, Callable[..., Callable[[], object]]] = {
    "onnxruntime": onnx_session,
    "openvino": openvino_request,
}


def engine_times(specimen: Specimen, *, engine: str, int8: bool, threads: int) -> LayerTimes:
    """A layer's time, the same whatever zeros it has.

    A session of ONNX Runtime or OpenVINO that passes its input on is timed in turn and its time
    taken off, because within a network a layer has no session of its own.

    Raises:
        UserError: The engine cannot run the layer.
    """
    module, x = specimen.module, specimen.sample
    if engine == "torch":
        with torch.no_grad():
            own = time_runs({"layer": lambda: module(x)}, threads=threads)["layer"].median_ms
        return LayerTimes(base=None, dense={"fp32": own})
    kinds: list[NumberFormat] = ["fp32", "int8"] if int8 and _has_int8(module) else ["fp32"]
    runs: dict[str, Callable[[], object]] = {
        kind: _session(module, x, engine=engine, dtype=kind, threads=threads) for kind in kinds
    }
    runs["empty"] = _session(nn.Identity(), x, engine=engine, dtype="fp32", threads=threads)
    times = {name: own.median_ms for name, own in time_runs(runs, threads=threads).items()}
    empty = times.pop("empty")
    dense = {name: max(own - empty, _LEAST_SHARE * own) for name, own in times.items()}
    if int8:
        dense.setdefault("int8", dense["fp32"])
    return LayerTimes(base=None, dense=dense)


def empty_call_ms(engine: str, *, threads: int) -> float:
    """Least time of any layer: a module that does nothing; a thousandth of it within a session."""
    nothing, x = nn.Identity(), torch.zeros(1)
    own = time_runs({"empty": lambda: nothing(x)}, threads=threads)["empty"].median_ms
    return own if engine in ("wsr", "torch") else own / 10


def _has_int8(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) is nn.Linear


def _session(
    module: nn.Module, x: Tensor, *, engine: str, dtype: NumberFormat, threads: int
) -> Callable[[], Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.onnx"
        if dtype == "int8":
            rows = x.reshape(-1, x.shape[-1]) if isinstance(module, nn.Linear) else x
            export_qdq(nn.Sequential(module), rows, path, calibration=[rows])
            x = rows
        else:
            _write(module, x, path)
        return _START[engine](path, x, threads=threads)


def _write(module: nn.Module, x: Tensor, path: Path) -> None:
    try:
        export_onnx(nn.Sequential(module), torch.cat([x, x]) if len(x) == 1 else x, path)
    except UserError as error:
        raise UserError(f"layer {module}: {error}") from error
