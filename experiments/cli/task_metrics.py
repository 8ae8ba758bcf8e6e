"""Metrics of a task besides the mean score: F1, average precision, AUC."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from experiments.experiment import Experiment
from ws_learner.core import ComputeDevice, load_into, say

if TYPE_CHECKING:
    from torch import nn

    from ws_learner.core import RunDir

__all__ = ["add_measures", "task_metric_lines"]


def task_metric_lines(
    experiment: Experiment, model: nn.Module, compute: ComputeDevice
) -> dict[str, float]:
    """The experiment's measures of a network, printed; empty if it has none."""
    if experiment.measure is None:
        return {}
    compute.place_model(model.eval())
    with torch.no_grad():
        found = experiment.measure(model, compute)
    say("test: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
    return found


def add_measures(run: RunDir, experiment: Experiment, compute: ComputeDevice) -> None:
    """Measure the weights that a finished run saved; its summary keeps the result."""
    summary = run.read_summary()
    if experiment.measure is None or "measures" in summary:
        return
    model = copy.deepcopy(experiment.model)
    load_into(model, run.model)
    found = task_metric_lines(experiment, model, compute)
    run.finish(summary | {"measures": found})
