"""Milliseconds of a network without its zero units."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from ws_learner.core import one_thread
from ws_learner.deploy.costs.single_layers import Run, least_seconds, session_of
from ws_learner.deploy.onnx.export import export_onnx, values_of
from ws_learner.deploy.shrinking.shrink import shrink
from ws_learner.deploy.shrinking.tracing import call_model

__all__ = ["engine_run", "network_ms", "shrunk_ms"]

_ROUNDS = 9


def shrunk_ms(model: nn.Module, example: Any, *, engine: str, threads: int = 1) -> float:
    """Milliseconds of a network in an engine after its zero units have been removed.

    Args:
        model: Not changed.
        example: Arguments of a forward pass, of the batch size that matters.
        engine: `onnxruntime`, `openvino` or `torch`.
        threads: Of the engine; with one the processor's time counts.

    Raises:
        UserError: The engine is unknown or missing, or the network cannot be shrunk or exported.
    """
    return network_ms(shrink(model, example).model, example, engine=engine, threads=threads)


def network_ms(model: nn.Module, example: Any, *, engine: str, threads: int = 1) -> float:
    """Milliseconds of a network as it is: median of nine rounds, each the least of its calls.

    Args and errors: see `shrunk_ms`.
    """
    run = engine_run(model, example, engine=engine, threads=threads)
    with one_thread():
        return 1e3 * median(least_seconds(run, threads=threads) for _ in range(_ROUNDS))


def engine_run(model: nn.Module, example: Any, *, engine: str, threads: int = 1) -> Run:
    """The network in an engine, as a call without arguments."""
    model = model.eval()
    if engine == "torch":
        given = example if isinstance(example, Mapping | tuple) else _as_arguments(example)

        def run() -> None:
            with torch.inference_mode():
                call_model(model, given)

        return run
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        names = _export(model, example, path)
        values = [value.detach().numpy() for value in values_of(example)]
        feed = dict(zip(names, values, strict=True))
        return session_of(str(path), feed, engine=engine, threads=threads)


def _as_arguments(example: Any) -> tuple[Any, ...]:
    return (example,) if isinstance(example, torch.Tensor) else tuple(example)


def _export(model: nn.Module, example: Any, path: Path) -> list[str]:
    """Write the file; return the names of its inputs.

    PyTorch's older exporter takes a tenth of a second and the newer one seconds; engines run
    their graphs equally fast. The newer one is used where the older one fails or is gone.
    """
    given = (dict(example),) if isinstance(example, Mapping) else _as_arguments(example)
    count = len(values_of(example))
    labels = list(example) if isinstance(example, Mapping) else [f"input_{n}" for n in range(count)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, given, str(path), input_names=labels, dynamo=False)
    except Exception:  # whatever the exporter raises
        export_onnx(model, example, path)
    return labels
