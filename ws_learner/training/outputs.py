"""What the outputs of a network mean, told from its loss, its targets and their shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.core import OUTPUT_KINDS, Inputs, OutputKind, UserError, check_output_kind
from ws_learner.data import has_targets, words_in

__all__ = ["class_axis", "counted_positions", "infer_output_kind", "resolve_output_kind"]

_IGNORED = -100  # PyTorch's `ignore_index`
_LOSSES: dict[OutputKind, tuple[object, ...]] = {
    "classes": (nn.CrossEntropyLoss, functional.cross_entropy),
    "labels": (
        nn.BCEWithLogitsLoss,
        nn.MultiLabelSoftMarginLoss,
        functional.binary_cross_entropy_with_logits,
        functional.multilabel_soft_margin_loss,
    ),
    "values": (
        *(nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss),
        *(functional.mse_loss, functional.l1_loss),
        *(functional.smooth_l1_loss, functional.huber_loss),
    ),
}
"""Losses of PyTorch that say what they take."""


def resolve_output_kind(
    given: str | None,
    outputs: Tensor,
    targets: Tensor,
    *,
    num_classes: int,
    loss: Callable[..., Tensor] | None = None,
) -> OutputKind:
    """The kind that was given, if it fits the outputs, or else the one that is inferred.

    Arguments are as of `infer_output_kind`.

    Raises:
        UserError: The kind is unknown, or does not fit.
    """
    if given is None:
        return infer_output_kind(outputs, targets, num_classes=num_classes, loss=loss)
    kind = check_output_kind(given)
    least = {"classes": 2, "tokens": 2, "embeddings": 2}.get(kind, 1)
    axis = 1 if kind == "classes" else -1
    one = kind in ("classes", "tokens") and outputs.dim() >= least and outputs.shape[axis] == 1
    if outputs.dim() < least or one:
        raise UserError(
            f"`outputs` {kind}: the network gives {tuple(outputs.shape)}, which has no axis of "
            "several classes or components; one logit of yes or no is `labels`, a number `values`"
        )
    return kind


def infer_output_kind(
    outputs: Tensor,
    targets: Tensor,
    *,
    num_classes: int,
    loss: Callable[..., Tensor] | None = None,
) -> OutputKind:
    """Tell what a network's outputs mean.

    A loss of PyTorch says it; otherwise whole targets with one axis less than the outputs are
    classes, targets of the same shape are labels if all are 0 or 1, and values if not.

    Args:
        outputs: (n, ...) of the first n examples.
        targets: (N, ...) of N >= n examples.
        num_classes: Number of classes of the data.
        loss: The task loss.

    Raises:
        UserError: More than one meaning is possible, or none.
    """
    for known, losses in _LOSSES.items():
        if any(loss is own or (isinstance(own, type) and isinstance(loss, own)) for own in losses):
            return _checked_loss(known, outputs)
    kind: OutputKind | None
    example, wanted = tuple(outputs.shape[1:]), tuple(targets.shape[1:])
    if not has_targets(targets):
        kind = _of_classes_alone(example, num_classes=num_classes)
    elif example in (wanted, (*wanted, 1)) or (*example, 1) == wanted:
        kind = _of_equal_shapes(targets, example, num_classes=num_classes)
    else:
        kind = _of_class_numbers(targets, example, num_classes=num_classes)
    if kind is None:
        raise UserError(
            f"`outputs`: the network gives {_batch_of(example)} and the targets are "
            f"{str(targets.dtype).removeprefix('torch.')} {_batch_of(wanted)} of {num_classes} "
            "classes, which does not say what the outputs mean; give `outputs`, one of "
            f"{', '.join(OUTPUT_KINDS)}"
        )
    return kind


def _checked_loss(kind: OutputKind, outputs: Tensor) -> OutputKind:
    """Cross-entropy of a single class is no prediction of classes."""
    if kind == "classes" and (outputs.dim() < 2 or outputs.shape[1] < 2):
        raise UserError(
            f"`loss`: cross-entropy of outputs {tuple(outputs.shape)} has one class only; use "
            "nn.BCEWithLogitsLoss for one logit of yes or no"
        )
    return kind


def _batch_of(example: tuple[int, ...]) -> str:
    return f"({', '.join(['B', *map(str, example)])})"


def _of_equal_shapes(
    targets: Tensor, example: tuple[int, ...], *, num_classes: int
) -> OutputKind | None:
    """One target for each output: labels, values, or the share of each class."""
    values = targets.double()
    yes_or_no = bool(((values == 0) | (values == 1)).all())
    several = bool(example) and example[0] > 1 and targets.shape[1:] == example
    sums_to_one = several and bool(((values.sum(1) - 1).abs() < 1e-4).all())
    inside = bool(((values >= 0) & (values <= 1)).all())
    if inside and sums_to_one:  # one-hot or soft classes, unless each happens to have one label
        return "classes" if example[0] == num_classes else None
    if yes_or_no:
        return "labels" if several or len(example) > 1 or num_classes <= 2 else None
    if not targets.is_floating_point():
        return "values" if bool((values >= 0).all()) else None  # -1 and -100 mark what is ignored
    return None if inside else "values"


def _of_class_numbers(
    targets: Tensor, example: tuple[int, ...], *, num_classes: int
) -> OutputKind | None:
    """Whole targets with one axis less than the outputs: class numbers."""
    wanted = tuple(targets.shape[1:])
    if targets.is_floating_point() or len(example) != len(wanted) + 1:
        return None
    if not wanted:  # with another number of outputs it may be an embedding
        return "classes" if example[0] == num_classes else None
    first, last = example[1:] == wanted, example[:-1] == wanted
    if first == last:
        return None
    return "classes" if first else "tokens"


def _of_classes_alone(example: tuple[int, ...], *, num_classes: int) -> OutputKind | None:
    """One axis that is as long as there are classes, without targets."""
    if num_classes < 2 or not example:
        return None
    first, last = example[0] == num_classes, example[-1] == num_classes
    if len(example) == 1 or first != last:
        return "classes" if first else "tokens" if last else None
    return None


def class_axis(outputs: Tensor, targets: Tensor) -> int:
    """Axis of the classes in outputs (B, C), (B, C, ...) or (B, ..., C) of targets (B, ...).

    Raises:
        UserError: There is none, or two axes are possible.
    """
    shape, wanted = tuple(outputs.shape), tuple(targets.shape)
    found = [axis for axis in {1, outputs.dim() - 1} if shape[:axis] + shape[axis + 1 :] == wanted]
    if outputs.dim() < 2 or len(found) != 1:
        raise UserError(
            f"accuracy of outputs {shape} and targets {wanted}: "
            f"{'two axes' if len(found) > 1 else 'no axis'} could be the classes'; targets must be "
            "class numbers with one axis less than the outputs; give top_k_accuracy its `axis`, or "
            "a metric of your own"
        )
    return found[0]


def counted_positions(
    outputs: Tensor, targets: Tensor, inputs: Inputs, *, kind: OutputKind, pad_id: int | None
) -> Tensor | None:
    """(B, ...) True at the positions that count; None if an example has one prediction.

    Padding of sentences and targets of -100 do not count.

    Args:
        outputs: Outputs of the network.
        targets: Targets of the task loss.
        inputs: Its inputs.
        kind: What the outputs mean.
        pad_id: Number that pads sentences, see `DataSplits.pad_id`; None for no padding.
    """
    if kind not in ("classes", "tokens") or outputs.dim() < 3:
        return None
    axis = 1 if kind == "classes" else outputs.dim() - 1
    shape = outputs.shape[:axis] + outputs.shape[axis + 1 :]
    counted = torch.ones(shape, dtype=torch.bool, device=outputs.device)
    if targets.shape == shape and not targets.is_floating_point():
        counted &= targets.to(outputs.device) != _IGNORED
    words = words_in(inputs, pad_id=pad_id) if kind == "tokens" else None
    if words is not None and words.shape == shape:
        counted &= words.to(outputs.device)
    return counted
