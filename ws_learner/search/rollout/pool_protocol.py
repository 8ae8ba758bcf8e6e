"""Interface of rollout pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from torch import nn

from envs import IntArray, Score
from ws_learner.core import LayerChoice
from ws_learner.training import Loss, Metric

__all__ = ["Candidate", "CandidateEvaluator", "PoolFactory", "RolloutPool"]

Candidate = IntArray | Sequence[LayerChoice]
"""Zero counts (L,), or L choices, as the evaluator takes them."""


class CandidateEvaluator(Protocol):
    """What scores candidates in the processes of a pool: a picklable evaluator."""

    @property
    def dense(self) -> nn.Module:
        """The dense network."""

    @property
    def loss(self) -> Loss:
        """Task loss."""

    @property
    def metric(self) -> Metric:
        """Score of each example."""

    def checked(self, candidate: Any, /) -> Any:
        """Return the candidate as it is sent to the processes.

        Raises:
            ValueError: It does not match the layer table.
        """

    def score(self, candidate: Any, /) -> Score:
        """Score a checked candidate."""


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

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Score]:
        """Score candidates, as the evaluator takes them; results in the order given.

        Raises:
            ValueError: A candidate does not match the layer table.
            RuntimeError: The pool is closed or was never entered.
        """


PoolFactory = Callable[[CandidateEvaluator], RolloutPool]
"""Builds a pool from an evaluator."""
