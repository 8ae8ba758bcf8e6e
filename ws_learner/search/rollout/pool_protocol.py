"""What a search needs of whoever scores its candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from envs import IntArray, Score
from ws_learner.search.rollout.evaluator import RolloutEvaluator

__all__ = ["PoolFactory", "RolloutPool"]


class RolloutPool(Protocol):
    """A context manager whose `evaluate` scores candidates, the same on any number of workers."""

    def __enter__(self) -> Self:
        """Start the workers."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """End the workers."""

    def evaluate(self, candidates: Sequence[IntArray]) -> list[Score]:
        """Score candidates, each an array (L,) of zero counts; results in the order given.

        Raises:
            ValueError: A candidate does not fit the layer table.
            RuntimeError: The pool has been left, or was never entered.
        """


PoolFactory = Callable[[RolloutEvaluator], RolloutPool]
"""Makes the pool that scores by an evaluator."""
