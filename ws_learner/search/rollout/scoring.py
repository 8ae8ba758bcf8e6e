"""Scoring on fixed examples: the metric, and the divergence from the dense network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from envs import IntArray, LayerRow, Score, as_scored
from ws_learner.config import RewardSignal, RolloutConfig
from ws_learner.core import Inputs, OutputKind, UserError, call_model, one_thread
from ws_learner.data import Batch, has_targets
from ws_learner.search.rollout.divergence import divergences, spread_of
from ws_learner.training import (
    Loss,
    Metric,
    MetricMean,
    as_metric,
    counted_positions,
    explained,
    resolve_output_kind,
)

__all__ = [
    "WORST_DIVERGENCE",
    "Scoring",
    "as_scored",
    "failed_score",
    "reward_of",
    "scored_twice",
]

WORST_DIVERGENCE = 100.0
"""Maximum divergence; exp of its negative is practically 0."""


class Scoring:
    """Fixed images with the dense network's outputs.

    Args:
        dense: The dense network, in evaluation mode.
        batches: (inputs, targets) on its device.
        metric: Score of each example.
        outputs: What the outputs mean; None infers it.
        num_classes: Number of classes of the data.
        loss: The task loss, which may say what the outputs mean.
        compares: Whether the divergence is needed; if not, it may be unknown.
        pad_id: Number that pads sentences, see `DataSplits.pad_id`.

    Attributes:
        labelled: Whether the batches have targets; the metric stays unread without.

    Raises:
        UserError: The metric is not usable on the dense network's outputs, or what they mean is
            needed and not known.
    """

    def __init__(
        self,
        dense: nn.Module,
        batches: Sequence[Batch],
        *,
        metric: Metric,
        outputs: OutputKind | None,
        num_classes: int,
        loss: Loss,
        compares: bool = True,
        pad_id: int | None = None,
    ) -> None:
        self._metric, self._batches = as_metric(metric), tuple(batches)
        with torch.inference_mode():
            answers = [call_model(dense, inputs).float() for inputs, _ in self._batches]
        self._answers = tuple(answer.clone() for answer in answers)
        for answer, (inputs, _) in zip(self._answers, self._batches, strict=True):
            if not bool(answer.isfinite().all()):
                raise UserError(
                    "the dense network's outputs hold NaN or infinity for examples that score "
                    f"rollouts: {explained(dense, inputs)}"
                )
        self.labelled = all(has_targets(targets) for _, targets in self._batches)
        if not self.labelled and not compares:
            raise UserError(
                "`ws_reward_signal` accuracy: the examples that score rollouts have no targets; "
                "use kl, which compares with the dense network"
            )
        self.examples = sum(len(answer) for answer in self._answers)
        self.dense_metric = self._measured(self._answers)
        self.outputs: OutputKind | None = None
        self._counted: tuple[Tensor | None, ...] = (None,) * len(self._batches)
        try:
            self._understand(outputs, num_classes=num_classes, loss=loss, pad_id=pad_id)
        except UserError:
            if compares:
                raise

    def _measured(self, answers: Iterable[Tensor]) -> float:
        """The metric of outputs for all batches; 1 without targets."""
        if not self.labelled:
            return 1.0
        mean = MetricMean(self._metric)
        for answer, (_, targets) in zip(answers, self._batches, strict=True):
            mean.add(answer, targets)
        return mean.value("the examples that score rollouts")

    def _understand(
        self, given: OutputKind | None, *, num_classes: int, loss: Loss, pad_id: int | None
    ) -> None:
        """Find out what the outputs mean, and what a comparison of them needs."""
        targets = self._batches[0][1]
        kind = resolve_output_kind(
            given, self._answers[0], targets, num_classes=num_classes, loss=loss
        )
        self._spread = spread_of(self._answers, kind=kind)
        self._counted = tuple(
            counted_positions(answer, targets, inputs, kind=kind, pad_id=pad_id)
            for answer, (inputs, targets) in zip(self._answers, self._batches, strict=True)
        )
        self.outputs = kind

    @torch.inference_mode()
    def mark(self, model: nn.Module) -> tuple[float, float | None]:
        """Return metric and mean divergence of a model in evaluation mode.

        The divergence is None if what the outputs mean is not known. Without targets the metric
        is exp of its negative.

        Raises:
            FloatingPointError: An output is NaN or infinite.
            UserError: The metric is.
        """
        mean, distance = MetricMean(self._metric), 0.0
        batches = zip(self._batches, self._answers, self._counted, strict=True)
        for (inputs, targets), dense, counted in batches:
            outputs = call_model(model, inputs).float()
            if not bool(torch.isfinite(outputs).all()):
                raise FloatingPointError("the pruned network's outputs are not finite")
            if self.labelled:
                mean.add(outputs, targets)
            if self.outputs is not None:
                each = self.divergence(outputs, dense, counted)
                distance += float(each.double().sum())
        divergence = None
        if self.outputs is not None:
            divergence = min(distance / self.examples, WORST_DIVERGENCE)
        if not self.labelled and divergence is not None:
            return math.exp(-divergence), divergence
        return mean.value("the examples that score rollouts"), divergence

    @torch.inference_mode()
    def mean_loss(self, model: nn.Module, loss: Loss) -> float:
        """Mean task loss of a model in evaluation mode; the batches must have targets."""
        total = 0.0
        for (inputs, targets), answers in zip(self._batches, self._answers, strict=True):
            total += float(loss(call_model(model, inputs), targets)) * len(answers)
        return total / self.examples

    def compared(self, examples: int) -> Iterator[tuple[Inputs, Tensor, Tensor | None]]:
        """Inputs, dense outputs and counted positions of the first batches.

        Batches of less than half the usual size are left out: a batch norm that uses the statistics
        of the batch would be far off, or fail at a single example.

        Args:
            examples: The last batch is the one that reaches this number.
        """
        seen, usual = 0, max(len(answers) for answers in self._answers)
        batches = zip(self._batches, self._answers, self._counted, strict=True)
        for (inputs, _), answers, counted in batches:
            if seen >= examples:
                return
            if 2 * len(answers) < usual:
                continue
            seen += len(answers)
            yield inputs, answers, counted

    @property
    def inputs(self) -> list[Inputs]:
        """Inputs of all batches."""
        return [inputs for inputs, _ in self._batches]

    @property
    def batched(self) -> bool:
        """Whether batches have more than one example, so that they have statistics."""
        return any(len(answers) > 1 for answers in self._answers)

    def divergence(self, outputs: Tensor, dense: Tensor, counted: Tensor | None) -> Tensor:
        """(B,) divergence of each example's outputs from the dense network's, differentiable."""
        assert self.outputs is not None
        return divergences(
            outputs.float(), dense, kind=self.outputs, counted=counted, spread=self._spread
        )

    def described(self, signal: RewardSignal) -> str:
        """What the reward measures; empty for an accuracy, and for the KL of (B, C) classes."""
        if signal == "accuracy":
            return "" if self._metric.accuracy else f"by {self._metric.name}"
        plain = self.outputs == "classes" and self._answers[0].dim() == 2
        return "" if plain else f"by the divergence of {self.outputs}"

    def quality(self, value: float) -> float:
        """The metric as a reward, in [0, 1], higher for the better of two networks.

        A share is its own reward, or 1 less it. Any other metric is compared with the dense
        network's: 1/2 where they are equal, and falling with x, the loss relative to the size of
        the dense metric, as (1 - x / (1 + |x|)) / 2.
        """
        if self._metric.share:
            return value if self._metric.higher_is_better else 1 - value
        loss = (
            self.dense_metric - value
            if self._metric.higher_is_better
            else value - self.dense_metric
        )
        relative = loss / (abs(self.dense_metric) or 1.0)
        return (1 - relative / (1 + abs(relative))) / 2


def reward_of(
    quality: float,
    divergence: float | None,
    zeros: IntArray,
    *,
    layers: Sequence[LayerRow],
    config: RolloutConfig,
) -> float:
    """Compute the reward, see `RolloutConfig.reward_signal` and `.reward_type`.

    `quality` is the metric as a reward, see `Scoring.quality`.
    """
    if config.reward_signal != "accuracy":
        assert divergence is not None  # an evaluator without one is refused
        quality = math.exp(-divergence)
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


def scored_twice(score: Callable[[], Score]) -> Score:
    """A score with its seconds, on one thread; the worst one with the reason if it fails twice."""
    start, reason = time.perf_counter(), ""
    for _attempt in range(2):
        try:
            with one_thread():
                found = score()
            return replace(found, seconds=time.perf_counter() - start)
        except Exception as error:  # a failing candidate must not end the search
            reason = f"{type(error).__name__}: {error}"
    return replace(failed_score(reason), seconds=time.perf_counter() - start)
