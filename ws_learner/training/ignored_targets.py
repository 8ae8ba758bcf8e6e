"""Class numbers that stand for positions without a class, such as 255 in a segmentation."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ws_learner.training.evaluation import Loss
from ws_learner.training.metric_spec import MetricSpec

__all__ = ["ignored_by", "ignoring"]

_IGNORED = -100  # PyTorch's `ignore_index`
_USUAL = (-100, -1, 255)


def ignored_by(
    loss: Loss, answers: Tensor, targets: Tensor, *, classes: int, more: Iterable[int] = ()
) -> tuple[int, ...]:
    """Numbers that are no class and that a loss takes, so that it ignores them.

    A loss says so by its `ignore_index`; another one is tried on the usual numbers and on those
    that occur.

    Args:
        loss: (outputs, targets) -> scalar.
        answers: Outputs for a few examples.
        targets: Their class numbers, with positions to ignore.
        classes: Number of classes.
        more: Numbers to try beside the usual ones.
    """
    told = getattr(loss, "ignore_index", None)
    tried = (told,) if isinstance(told, int) else sorted({*_USUAL, *more})
    outside = [value for value in tried if not 0 <= value < classes]
    fine = targets.clamp(0, classes - 1)
    return tuple(value for value in outside if _takes(loss, answers, fine, value))


def _takes(loss: Loss, answers: Tensor, targets: Tensor, value: int) -> bool:
    if not targets.numel() or not torch.iinfo(targets.dtype).min <= value:
        return False
    wide = targets.long()
    wide.reshape(-1)[0] = value
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
            warnings.simplefilter("ignore")
            found: Any = loss(answers.clone(), wide)
            return bool(torch.as_tensor(found).isfinite().all())
    except Exception:
        return False


def ignoring(metric: MetricSpec, ignored: tuple[int, ...]) -> MetricSpec:
    """A metric that leaves out -100, so that it leaves out other numbers as well."""
    numbers = tuple(value for value in ignored if value != _IGNORED)
    if not numbers:
        return metric
    return replace(metric, function=partial(_without, metric.function, numbers))


def _without(function: Any, numbers: tuple[int, ...], outputs: Tensor, targets: Tensor) -> Tensor:
    left_out = torch.isin(targets, torch.tensor(numbers, device=targets.device))
    found: Tensor = function(outputs, targets.long().masked_fill(left_out, _IGNORED))
    return found
