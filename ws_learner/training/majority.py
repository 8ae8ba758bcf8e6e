"""Tell a network that answers with the most frequent class."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import ComputeDevice, Inputs, call_model, warn
from ws_learner.data import DataSplits, has_targets
from ws_learner.training.metric_spec import Metric, as_metric

__all__ = ["majority_share", "say_majority"]

_EXAMPLES = 128


def majority_share(targets: Any) -> float | None:
    """Share of the most frequent class among (B,) class numbers.

    None if the targets are none, or all the same, or some do not count.
    """
    if not isinstance(targets, Tensor) or targets.dim() != 1 or targets.is_floating_point():
        return None
    counts = targets.long().bincount(minlength=1) if int(targets.min()) >= 0 else None
    if counts is None or int(counts.max()) == len(targets):
        return None
    return int(counts.max()) / len(targets)


@torch.no_grad()
def say_majority(
    model: nn.Module, data: DataSplits, *, metric: Metric, compute: ComputeDevice
) -> None:
    """Say if the dense network's metric on search examples is the share of the majority class.

    Args:
        model: The dense network; not changed.
        data: The splits; up to 128 examples of the search split are read.
        metric: Only a share of which more is better is looked at.
        compute: Device and memory layout.
    """
    spec = as_metric(metric)
    if not spec.accuracy or spec.of_mean is not None:
        return
    inputs, targets = next(iter(data.search.batches(_EXAMPLES, seed=0)))
    share = majority_share(targets) if has_targets(targets) else None
    if share is None:
        return
    answers = _answers(model, inputs, compute)
    if not _constant(answers):
        return
    answers = answers.float()
    found = float(spec.scores(answers, targets.to(answers.device)).mean())
    if abs(found - share) < 1e-9:
        warn(
            f"warning: the dense network's {spec.name} on {len(targets)} examples of the search "
            f"split, {found:.4f}, is the share of the most frequent class, which it gives as the "
            "answer to all of them: it has learned nothing. Train it first, or look at its weights "
            "and the inputs"
        )


def _answers(model: nn.Module, inputs: Inputs, compute: ComputeDevice) -> Tensor:
    """Outputs in evaluation mode; on a CPU without a copy of the network, which may be large."""
    if compute.device != "cpu" or any(value.device.type != "cpu" for value in model.parameters()):
        placed = compute.place_model(copy.deepcopy(model)).eval()
        return call_model(placed, compute.place(inputs))
    modes = [(module, module.training) for module in model.modules()]
    try:
        return call_model(model.eval(), inputs)
    finally:
        for module, training in modes:
            module.training = training


def _constant(answers: Tensor) -> bool:
    """Whether (B, C) scores or (B,) or (B, 1) logits have the same answer for all examples."""
    if answers.dim() == 2 and answers.shape[1] > 1:
        chosen = answers.argmax(1)
    else:
        chosen = (answers.reshape(len(answers), -1)[:, 0] > 0).long()
    return bool((chosen == chosen[0]).all())
