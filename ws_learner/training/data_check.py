"""Check splits before any work: that they hold examples, numbers, and labels in range."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.data import DataSplits, Split, held_tensors
from ws_learner.training.evaluation import Loss
from ws_learner.training.not_finite import broken_example, broken_line, is_finite

__all__ = ["check_inputs", "check_labels", "check_splits"]

_NAMES = ("train", "search", "select", "test")
_FIRST = 16  # examples that are looked at where a split is not in memory
_VALUES = 8


def check_splits(data: DataSplits) -> None:
    """Refuse splits without examples.

    Raises:
        UserError: One has none.
    """
    for name in _NAMES:
        if not len(getattr(data, name)):
            raise UserError(
                f"`data`: the {name} split holds no examples; give it some, such as by a larger "
                "share in split_dataset"
            )


def check_inputs(data: DataSplits) -> None:
    """Refuse NaN and infinity in inputs: all in memory, else in the first 16 of a split.

    A test split that is not in memory is not read.

    Raises:
        UserError: There is one; the message names the split and the example.
    """
    known: dict[int, bool] = {}
    for name in _NAMES:
        split: Split = getattr(data, name)
        held = held_tensors(split)
        if held is None:
            inputs = None if name == "test" else _first(split)[0]
        elif held.inputs is None:
            continue
        else:
            fine = known.setdefault(id(held.inputs), is_finite(held.inputs))
            inputs = None if fine else held.own(held.inputs)
        if inputs is not None and (found := broken_example(inputs)) is not None:
            raise UserError(broken_line(name, found))


def check_labels(data: DataSplits, loss: Loss, answers: Tensor, targets: Any) -> None:
    """Refuse class numbers that the network has no output for and the loss does not ignore.

    All labels in memory are looked at, else the first 16 of a split but the test split. A label
    outside the outputs is tried on the loss, which may ignore it, as `ignore_index` does.

    Args:
        data: The splits.
        loss: The task loss.
        answers: (n, C), (n, C, ...) or (n, ..., C) outputs for a few examples.
        targets: (N, ...) targets of theirs and of more examples.

    Raises:
        UserError: There is one; the message names split, example and label.
    """
    if not isinstance(targets, Tensor):
        return
    few = targets[: len(answers)]
    classes = _classes(answers, few)
    padded = data.pad_id is not None  # then the outputs may be positions in a sentence
    if classes is None or (padded and classes != data.num_classes):
        return
    allowed: set[int] = set()
    for name in _NAMES:
        split: Split = getattr(data, name)
        held = held_tensors(split)
        if held is None and name == "test":
            continue
        labels: Any = held.own(held.targets) if held else _first(split)[1]
        if not isinstance(labels, Tensor) or labels.is_floating_point():
            continue
        outside = (labels < 0) | (labels >= classes)
        for value in sorted(set(labels[outside].tolist()))[:_VALUES]:
            if value in allowed:
                continue
            if not _takes(loss, answers, few, value):
                where = (labels == value).reshape(len(labels), -1).any(1)
                raise UserError(
                    f"`data`: example {int(where.nonzero()[0])} of the {name} split has the label "
                    f"{value}, but the network's {classes} outputs are for labels 0 to "
                    f"{classes - 1}; correct the labels, or the size of the last layer"
                )
            allowed.add(value)


def _first(split: Split) -> tuple[Any, Any]:
    return next(iter(split.batches(_FIRST)))


def _classes(answers: Tensor, targets: Tensor) -> int | None:
    """Number of classes, if the targets are class numbers of the outputs."""
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        return None
    shape, wanted = tuple(answers.shape), tuple(targets.shape)
    for axis in (1, answers.dim() - 1):
        if answers.dim() > 1 and shape[:axis] + shape[axis + 1 :] == wanted:
            return shape[axis] if shape[axis] > 1 else None
    return None


def _takes(loss: Loss, answers: Tensor, targets: Tensor, value: int) -> bool:
    """Whether a loss has a finite value where one label is `value`."""
    tried = targets.clone()
    tried.reshape(-1)[0] = value
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
            warnings.simplefilter("ignore")
            return bool(torch.as_tensor(loss(answers.clone(), tried)).isfinite().all())
    except Exception:
        return False
