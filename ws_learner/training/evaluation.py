"""Evaluation of a network on a split."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.core import ComputeDevice, UserError, call_model, track
from ws_learner.data import Split, on_device
from ws_learner.training.metric_spec import Metric, MetricMean, MetricSpec
from ws_learner.training.outputs import class_axis

__all__ = ["Loss", "Metric", "evaluate", "perplexity", "top_k_accuracy"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> scalar."""

_IGNORED = -100  # PyTorch's `ignore_index`


def top_k_accuracy(
    outputs: Tensor, targets: Tensor, *, k: int = 1, axis: int | None = None
) -> Tensor:
    """(B,) share of an example's targets that are among the k largest outputs.

    Args:
        outputs: (B, C), (B, C, ...) or (B, ..., C) scores of C classes.
        targets: (B, ...) class numbers, or one-hot targets of the outputs' shape. Those of -100 do
            not count.
        k: How many answers may be given, at most C.
        axis: Axis of the classes; by default the one that the targets lack, or 1 if one-hot.

    Raises:
        UserError: The targets are neither, all of an example's are -100, the axis is not known,
            or there are no k classes.
    """
    if targets.shape == outputs.shape and outputs.dim() > 1:
        axis = 1 if axis is None else axis
        targets = _class_numbers(targets, axis)
    elif targets.is_floating_point():
        raise UserError(
            f"top_k_accuracy: targets of type {targets.dtype} and shape {tuple(targets.shape)} are "
            "no class numbers; give whole numbers, or a metric of your own"
        )
    axis = class_axis(outputs, targets) if axis is None else axis
    if not 1 <= k <= outputs.shape[axis]:
        raise UserError(f"top_k_accuracy: k = {k}, but there are {outputs.shape[axis]} classes")
    best = outputs.topk(k, dim=axis).indices
    right = (best == targets.unsqueeze(axis)).any(dim=axis)
    counted = (targets != _IGNORED).reshape(len(targets), -1)
    positions = counted.sum(1)
    if bool((positions == 0).any()):
        raise UserError(
            f"top_k_accuracy: {int((positions == 0).sum())} of {len(targets)} examples have no "
            "target that counts (all are -100), so they have no score; leave them out of the data"
        )
    return (right.reshape(counted.shape) & counted).sum(1) / positions


def _class_numbers(targets: Tensor, axis: int) -> Tensor:
    """Class numbers of one-hot targets."""
    exact = ((targets == 0) | (targets == 1)).all() and (targets.sum(axis) == 1).all()
    if not bool(exact):
        raise UserError(
            "top_k_accuracy: targets of the outputs' shape must be one-hot, with a single 1; for "
            "several labels, or shares of classes, give a metric of your own"
        )
    return targets.argmax(axis)


def perplexity() -> MetricSpec:
    """Perplexity of (B, T, C) logits for (B, T) targets: exp of the mean log-loss, in nats.

    The mean is over the examples' means, so it is the perplexity of a token if all examples have
    the same number. Targets of -100 do not count. Lower is better.
    """
    return MetricSpec(
        _log_loss, name="perplexity", unit="", higher_is_better=False, of_mean=math.exp
    )


def _log_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B,) mean cross-entropy of an example's targets."""
    scores = outputs.float().movedim(class_axis(outputs, targets), 1)
    each = functional.cross_entropy(scores, targets, ignore_index=_IGNORED, reduction="none")
    counted = (targets != _IGNORED).reshape(len(targets), -1).sum(1)
    return each.reshape(len(targets), -1).sum(1) / counted.clamp_min(1)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: Split,
    metric: Metric,
    *,
    compute: ComputeDevice,
    batch_size: int = 250,
    title: str | None = None,
    where: str = "the split",
) -> float:
    """Mean of `metric` over the whole split, in evaluation mode and full precision.

    Args:
        model: The network.
        split: Read in file order.
        metric: (outputs, targets) -> (B,) scores; a plain function gives shares in [0, 1].
        compute: Device and memory layout.
        batch_size: Examples per batch.
        title: Shows progress under this title.
        where: What is measured, for errors, such as `the select split at step 100`.

    Raises:
        UserError: Outputs are NaN, or the metric is not a finite number for each example, or a
            share outside [0, 1].
    """
    training = model.training
    model.eval()
    mean, broken = MetricMean(metric), torch.zeros((), dtype=torch.bool, device=compute.device)
    with track(title, total=len(split)) if title else nullcontext() as progress:
        for inputs, targets in on_device(split, compute.device).batches(batch_size):
            outputs = call_model(model, compute.place(inputs)).float()
            broken |= outputs.isnan().any()
            mean.add(outputs, targets.to(outputs.device, non_blocking=True))
            if progress:
                progress.advance(len(targets))
    model.train(training)
    if bool(broken):
        raise UserError(
            f"the network's outputs are NaN for an example of {where}; "
            "lower `lrn_rate`, or look for NaN in its weights and inputs"
        )
    return mean.value(where)
