"""Interface of rollout pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from torch import nn

from envs import IntArray, Score
from ws_learner.config import WeightSparseConfig
from ws_learner.data import Split
from ws_learner.search.context import AllocationContext
from ws_learner.training import Loss, Metric

__all__ = ["Evaluator", "PoolFactory", "RolloutPool"]


class Evaluator(Protocol):
    """Scores candidates: arrays (L,) of whole numbers over its layers."""

    @property
    def dense(self) -> nn.Module:
        """The dense network."""

    @property
    def loss(self) -> Loss:
        """Task loss."""

    @property
    def metric(self) -> Metric:
        """Score of each example."""

    def context(self, config: WeightSparseConfig) -> AllocationContext:
        """The context at the target of the settings."""

    def rewarded(self) -> str:
        """What the reward measures; empty for the usual one."""

    def on(self, split: Split) -> Self:
        """A copy that scores on another split."""

    def checked(self, zeros: IntArray) -> IntArray:
        """Check a candidate.

        Raises:
            ValueError: It does not match the layers.
        """

    def scored(self, zeros: IntArray) -> IntArray:
        """What a rollout builds of a candidate; equal for candidates that are scored alike."""

    def score(self, zeros: IntArray) -> Score:
        """Score a candidate."""

    def network(self, zeros: IntArray) -> nn.Module:
        """The pruned, repaired, fine-tuned network of a candidate."""


class RolloutPool(Protocol):
    """Context manager that scores candidates, independent of the number of workers."""

    def __enter__(self) -> Self:
        """Start the workers."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Stop the workers."""

    def evaluate(self, candidates: Sequence[IntArray]) -> list[Score]:
        """Score candidates, each an array (L,) of zero counts; results in the order given.

        Raises:
            ValueError: A candidate does not match the layer table.
            RuntimeError: The pool is closed or was never entered.
        """


PoolFactory = Callable[[Evaluator], RolloutPool]
"""Builds a pool from an evaluator."""
