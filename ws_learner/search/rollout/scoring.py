"""Scoring on fixed images: accuracy and divergence from the dense network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs import IntArray, LayerRow, Score, project
from ws_learner.config import RolloutConfig
from ws_learner.data import Batch
from ws_learner.training import Metric

__all__ = [
    "WORST_DIVERGENCE",
    "Scoring",
    "as_scored",
    "divergences",
    "failed_score",
    "reward_of",
]

WORST_DIVERGENCE = 100.0
"""Maximum divergence in nats; exp of its negative is practically 0."""


def as_scored(zeros: IntArray, sizes: IntArray, *, power: float) -> IntArray:
    """Return the candidate that is scored, see `RolloutConfig.score_power`.

    Args:
        zeros: (L,) zero counts.
        sizes: (L,) number of weights of each layer.
        power: In (0, 1]; 1 returns the candidate itself.
    """
    total = int(sizes.sum())
    density = 1 - int(zeros.sum()) / total
    budget = total - round(total * density**power)
    return project(zeros, budget=budget, lower=0 * sizes, upper=zeros, weights=sizes)


class Scoring:
    """Fixed images with the dense network's outputs.

    Args:
        dense: The dense network, in evaluation mode.
        batches: (inputs, targets) on its device.
        metric: Score of each example.
    """

    def __init__(self, dense: nn.Module, batches: Sequence[Batch], *, metric: Metric) -> None:
        self._metric, self._batches = metric, tuple(batches)
        self.examples = sum(len(targets) for _, targets in self._batches)
        with torch.inference_mode():
            answers = [dense(inputs).float() for inputs, _ in self._batches]
        self._answers = tuple(answer.clone() for answer in answers)

    @torch.inference_mode()
    def mark(self, model: nn.Module) -> tuple[float, float]:
        """Return mean metric and mean divergence in nats of a model in evaluation mode.

        Raises:
            FloatingPointError: An output is NaN or infinite.
        """
        right = distance = 0.0
        for (inputs, targets), dense in zip(self._batches, self._answers, strict=True):
            outputs = model(inputs).float()
            if not bool(torch.isfinite(outputs).all()):
                raise FloatingPointError("the pruned network's outputs are not finite")
            right += float(self._metric(outputs, targets).double().sum())
            distance += float(divergences(outputs, dense).double().sum())
        return right / self.examples, min(distance / self.examples, WORST_DIVERGENCE)


def divergences(outputs: Tensor, dense: Tensor) -> Tensor:
    """(B,) KL divergence from the dense predictions, in nats.

    Args:
        outputs: Logits (B, ..., C), averaged over the axes between; (B, 1) is one binary logit.
        dense: Logits of the dense network, same shape.
    """
    if dense.shape[-1] == 1:
        outputs = torch.cat([outputs, torch.zeros_like(outputs)], dim=-1)
        dense = torch.cat([dense, torch.zeros_like(dense)], dim=-1)
    ours, theirs = functional.log_softmax(outputs, -1), functional.log_softmax(dense, -1)
    each = (theirs.exp() * (theirs - ours)).sum(-1)
    return each.reshape(len(each), -1).mean(1).clamp_min(0)


def reward_of(
    accuracy: float,
    divergence: float,
    zeros: IntArray,
    *,
    layers: Sequence[LayerRow],
    config: RolloutConfig,
) -> float:
    """Compute the reward, see `RolloutConfig.reward_signal` and `.reward_type`."""
    quality = accuracy if config.reward_signal == "accuracy" else math.exp(-divergence)
    if config.reward_type == "single-obj":
        return quality
    return quality * math.log1p(int(zeros.sum()) / sum(row.weights for row in layers))


def failed_score(reason: str) -> Score:
    """Score of a failed candidate: the worst possible, with the reason."""
    return Score(
        reward=0.0,
        accuracy=0.0,
        accuracy_before=0.0,
        divergence=WORST_DIVERGENCE,
        failed=reason or "unknown",
    )
