"""Loss and metric chosen by a network's outputs and its data's targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ws_learner.core import Inputs, OutputKind, UserError, check_choice, say, tensors_of
from ws_learner.data import LABELS, DataSplits, has_targets
from ws_learner.training.batch_check import first_batch
from ws_learner.training.evaluation import Loss
from ws_learner.training.ignored_targets import ignored_by, ignoring
from ws_learner.training.metric_spec import Metric
from ws_learner.training.outputs import resolve_output_kind
from ws_learner.training.task_check import network_answers
from ws_learner.training.usual_losses import (
    LOSS_NAMES,
    loss_of,
    metric_of_kind,
    next_token_loss,
    next_token_perplexity,
)

__all__ = ["Task", "usual_task"]

_EXAMPLES = 32
_IGNORED = -100  # PyTorch's `ignore_index`


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a network is trained for.

    Attributes:
        loss: (outputs, targets) -> scalar.
        metric: Score of each example.
        outputs: What the outputs mean; None if it was not given and nothing was chosen by it.
        data: The splits, with the number of classes that the outputs have.
    """

    loss: Loss
    metric: Metric
    outputs: OutputKind | None
    data: DataSplits

    def __post_init__(self) -> None:
        check_choice(self.outputs, OutputKind | None, name="outputs")


def usual_task(
    model: nn.Module,
    data: DataSplits,
    *,
    loss: Loss | None = None,
    metric: Metric | None = None,
    outputs: OutputKind | None = None,
) -> Task:
    """Choose loss and metric where they are not given, by what the outputs mean.

    | outputs | loss | metric |
    |---|---|---|
    | `classes`, `tokens` | cross entropy | accuracy, of an example's positions if it has several |
    | `tokens` whose targets are the inputs | of each next token | perplexity |
    | `labels` | binary cross entropy of logits | accuracy, the share of labels that are right |
    | `values` | mean squared error | mean absolute error |

    A line says what was chosen. What the outputs mean is told as `infer_output_kind` does.

    Args:
        model: The dense network; it stays as it is.
        data: The splits; the first training examples are read.
        loss: The task loss; None chooses.
        metric: Score of each example; None chooses.
        outputs: What the outputs mean; None takes what the data say, or infers it.

    Raises:
        UserError: What the outputs mean cannot be told, they are probabilities already, a target
            is no class, or there is no usual loss.
    """
    given = outputs or data.outputs
    if loss is not None and metric is not None:
        return Task(loss=loss, metric=metric, outputs=given, data=data)
    inputs, targets = first_batch(data, _EXAMPLES, seed=0)
    if not has_targets(targets):
        raise UserError(
            "`data`: the examples have no targets to train with; give pairs (input, target), or "
            f"dicts in which the targets have one of the keys {', '.join(LABELS)}"
        )
    answers = network_answers(model, inputs)
    several = answers.dim() > 1 and answers.shape[1] > 1
    classes = answers.shape[1] if several else data.num_classes
    kind = resolve_output_kind(given, answers, targets, num_classes=classes, loss=loss)
    if kind == "embeddings":
        raise UserError("`outputs` embeddings: have no usual loss; give `loss` and `metric`")
    ignored: tuple[int, ...] = (_IGNORED,)
    follows = kind == "tokens" and _repeats_inputs(inputs, targets)
    if loss is None:
        _check_scale(answers, kind)
        loss = next_token_loss if follows else loss_of(kind)
        name = "cross entropy of each next token" if follows else LOSS_NAMES[kind]
        say(f"`loss`: {name}, since {_why(kind, follows)}; give another if it is not")
    if kind in ("classes", "tokens"):
        data = replace(data, num_classes=answers.shape[1 if kind == "classes" else -1])
        if not targets.is_floating_point() and targets.shape != answers.shape:
            ignored = _ignored(loss, answers, targets, classes=data.num_classes)
            _check_classes(targets, classes=data.num_classes, ignored=ignored)
    if metric is None:
        metric = next_token_perplexity() if follows else ignoring(metric_of_kind(kind), ignored)
        say(f"`metric`: {metric.name}, since {_why(kind, follows)}; give another if it is not")
    return Task(loss=loss, metric=metric, outputs=kind, data=data)


def _why(kind: OutputKind, follows: bool) -> str:
    return "the targets are the inputs" if follows else f"the outputs are {kind}"


def _repeats_inputs(inputs: Inputs, targets: Tensor) -> bool:
    """Whether targets (B, T) that count are the inputs themselves, as for a language model."""
    counted = targets != _IGNORED
    return bool(counted.any()) and any(
        part.shape == targets.shape and torch.equal(part[counted], targets[counted])
        for part in tensors_of(inputs)
    )


def _check_scale(answers: Tensor, kind: OutputKind) -> None:
    """Refuse probabilities, of which the usual losses would take softmax or sigmoid again."""
    inside = bool(((answers >= 0) & (answers <= 1)).all())
    if kind == "values" or not inside or len(answers) < 8:
        return
    if kind == "labels":
        last, remedy = "sigmoid", "nn.BCELoss()"
    else:
        last, remedy = "softmax", "nn.NLLLoss() of their logarithm"
        sums = answers.sum(-1 if kind == "tokens" else 1)
        if not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
            return
    raise UserError(
        f"`loss`: the outputs look like probabilities, as after a {last}, and the usual loss takes "
        f"logits; leave the {last} out of the network, or give a `loss`, such as {remedy}"
    )


def _ignored(loss: Loss, answers: Tensor, targets: Tensor, *, classes: int) -> tuple[int, ...]:
    """Numbers that are no class and do not count."""
    outside = sorted(set(targets[(targets < 0) | (targets >= classes)].tolist()))[:8]
    return _IGNORED, *ignored_by(loss, answers, targets, classes=classes, more=outside)


def _check_classes(targets: Tensor, *, classes: int, ignored: tuple[int, ...]) -> None:
    counted = targets[~torch.isin(targets, torch.tensor(ignored))]
    wrong = counted[(counted < 0) | (counted >= classes)]
    if len(wrong):
        raise UserError(
            f"`data`: a target is {int(wrong[0])}, but the network has {classes} classes, 0 to "
            f"{classes - 1}; renumber the targets, or give a `loss` that ignores it, such as "
            f"nn.CrossEntropyLoss(ignore_index={int(wrong[0])})"
        )
