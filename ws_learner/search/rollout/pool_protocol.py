"""Interface of rollout pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from envs import IntArray, Score
from ws_learner.search.rollout.evaluator import RolloutEvaluator

__all__ = ["PoolFactory", "RolloutPool"]


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


PoolFactory = Callable[[RolloutEvaluator], RolloutPool]
"""Builds a pool from an evaluator."""
