"""Batch-norm recalibration after pruning (EagleEye, Li et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ws_learner.core import Inputs, run_model

__all__ = ["recalibrate"]


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Inputs]) -> None:
    """Replace the running statistics of all batch norms by the mean over the batches.

    Only batch norms with running statistics are in training mode meanwhile; dropout and all other
    modules are in evaluation mode. Modes and momenta are restored. Without a batch norm, or
    without a batch, this does nothing.

    Args:
        model: Changed in place.
        batches: Inputs of equal size, on the model's device.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    inputs = list(batches) if norms else []
    if not inputs:
        return
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    try:
        for batch in inputs:
            run_model(model, batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
