"""Losses and scores that go with each kind of outputs, for targets of any fitting shape."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from ws_learner.core import OutputKind
from ws_learner.training.evaluation import Loss, perplexity, top_k_accuracy
from ws_learner.training.metric_spec import Metric, MetricSpec

__all__ = [
    "LOSS_NAMES",
    "absolute_error",
    "class_loss",
    "label_loss",
    "labels_right",
    "loss_of",
    "metric_of_kind",
    "next_token_log_loss",
    "next_token_loss",
    "next_token_perplexity",
    "token_accuracy",
    "token_loss",
    "value_loss",
]

LOSS_NAMES: dict[OutputKind, str] = {
    "classes": "cross entropy",
    "tokens": "cross entropy of the tokens",
    "labels": "binary cross entropy of logits",
    "values": "mean squared error",
}
"""What the usual loss of a kind of outputs is called."""


def class_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of (B, C, ...) logits for class numbers (B, ...) or shares of classes."""
    shares = targets.shape == outputs.shape
    return functional.cross_entropy(
        outputs, targets.to(outputs.dtype) if shares else targets.long()
    )


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of (B, ..., C) logits for (B, ...) targets; those of -100 do not count."""
    return functional.cross_entropy(outputs.movedim(-1, 1), targets.long())


def next_token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of logits (B, T, C) at each place for the target (B, T) one place later."""
    return token_loss(outputs[:, :-1], targets[:, 1:])


def next_token_log_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B,) mean of `next_token_loss` over an example's targets."""
    return perplexity().function(outputs[:, :-1], targets[:, 1:])


def label_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy of logits for targets of 0 and 1 in their shape, up to an axis of 1."""
    fitting = targets.reshape(outputs.shape).to(outputs.dtype)
    return functional.binary_cross_entropy_with_logits(outputs, fitting)


def value_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error for targets in the outputs' shape, up to an axis of 1."""
    return functional.mse_loss(outputs, targets.reshape(outputs.shape).to(outputs.dtype))


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B,) mean absolute error of an example's values."""
    error = (outputs - targets.reshape(outputs.shape)).abs()
    return error.reshape(len(error), -1).mean(1)


def labels_right(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B,) share of an example's labels that are on the same side as its logits are of 0."""
    right = ((outputs > 0) == (targets.reshape(outputs.shape) > 0.5)).double()
    return right.reshape(len(right), -1).mean(1)


def token_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B,) share of an example's tokens whose largest logit, on the last axis, is the target's."""
    return top_k_accuracy(outputs, targets, axis=outputs.dim() - 1)


def next_token_perplexity() -> MetricSpec:
    """The perplexity of each next token."""
    return replace(perplexity(), function=next_token_log_loss)


def loss_of(kind: OutputKind) -> Loss:
    """The usual loss of these outputs, which are not `embeddings`."""
    losses: dict[OutputKind, Loss] = {
        "classes": class_loss,
        "tokens": token_loss,
        "labels": label_loss,
        "values": value_loss,
    }
    return losses[kind]


def metric_of_kind(kind: OutputKind) -> MetricSpec:
    """The usual metric of these outputs, which are not `embeddings`."""
    function: dict[OutputKind, Metric] = {
        "classes": top_k_accuracy,
        "tokens": token_accuracy,
        "labels": labels_right,
    }
    if kind == "values":
        return MetricSpec(absolute_error, name="mean absolute error", higher_is_better=False)
    return MetricSpec(function[kind], name="accuracy")
