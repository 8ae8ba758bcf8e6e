"""Verify a written ONNX file against the network, in every installed engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ws_learner.core import AnyPath, as_path
from ws_learner.deploy.onnx.export import Example, relative_output_difference, values_of

__all__ = ["engine_differences", "run_openvino"]


def engine_differences(path: AnyPath, example: Example, wanted: Tensor) -> dict[str, float]:
    """By engine, how far the file's first output is from `wanted`, relative to its norm.

    ONNX Runtime always, OpenVINO where it is installed.

    Raises:
        UserError: onnxruntime is missing.
    """
    path = as_path(path)
    found = {"ONNX Runtime": relative_output_difference(path, example, wanted)}
    if importlib.util.find_spec("openvino") is not None:
        moved = run_openvino(path, example)[0] - wanted
        found["OpenVINO"] = float(moved.norm() / wanted.norm().clamp_min(1e-30))
    return found


def run_openvino(path: Path | str, example: Example) -> list[Tensor]:
    """Run a file on the CPU, in float32 where it does not say bytes."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    network: Any = openvino.Core().compile_model(str(path), "CPU", settings)
    found = network([value.numpy() for value in values_of(example)])
    return [torch.from_numpy(np.array(found[place])) for place in range(len(network.outputs))]
