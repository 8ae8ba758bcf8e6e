"""Evaluation of a network on a split."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from ws_learner.core import ComputeDevice, track
from ws_learner.data import Split, on_device

__all__ = ["Loss", "Metric", "evaluate", "top_k_accuracy"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> scalar."""
Metric = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> (B,) score of each example, in [0, 1]."""


def top_k_accuracy(outputs: Tensor, targets: Tensor, *, k: int = 1) -> Tensor:
    """(B,) 1 where the target is among the k largest of (B, C) outputs, else 0."""
    best = outputs.topk(k, dim=1).indices
    return (best == targets[:, None]).any(dim=1).float()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: Split,
    metric: Metric,
    *,
    compute: ComputeDevice,
    batch_size: int = 250,
    title: str | None = None,
) -> float:
    """Mean of `metric` over the whole split, in evaluation mode and full precision.

    Progress is shown if `title` is given.
    """
    training = model.training
    model.eval()
    total, count = torch.zeros((), dtype=torch.float64, device=compute.device), 0
    with track(title, total=len(split)) if title else nullcontext() as progress:
        for inputs, targets in on_device(split, compute.device).batches(batch_size):
            outputs = model(compute.place(inputs)).float()
            total += metric(outputs, targets.to(outputs.device, non_blocking=True)).sum()
            count += len(targets)
            if progress:
                progress.advance(len(targets))
    model.train(training)
    return float(total) / count
