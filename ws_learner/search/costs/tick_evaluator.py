"""Scores profiles in ticks of cost by an evaluator of what they stand for."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np
from torch import nn

from envs import IntArray, LayerRow, Score, as_scored
from ws_learner.config import WeightSparseConfig
from ws_learner.data import Split
from ws_learner.search.context import AllocationContext
from ws_learner.training import Loss, Metric

__all__ = ["ScoresAsGiven", "TickEvaluator"]


class ScoresAsGiven(Protocol):
    """Scores candidates as they are: zero counts, or one choice for each layer."""

    @property
    def dense(self) -> nn.Module:
        """The dense network."""

    @property
    def loss(self) -> Loss:
        """Task loss."""

    @property
    def metric(self) -> Metric:
        """Score of each example."""

    def rewarded(self) -> str:
        """What the reward measures."""

    def on(self, split: Split) -> Self:
        """A copy that scores on another split."""

    def score(self, candidate: Any, /) -> Score:
        """Score a candidate."""

    def network(self, candidate: Any, /) -> nn.Module:
        """The pruned and repaired network of a candidate."""


class TickEvaluator(ABC):
    """An `Evaluator` of profiles in ticks: (L,) whole ticks saved.

    The milder profile (`RolloutConfig.score_power`) keeps a power of the cost, not of the weights.

    Args:
        inner: Scores what a profile stands for; its own score_power is 1.
        rows: The layer table in ticks.
        context: Makes the context of a target.
        power: See `as_scored`.
    """

    def __init__(
        self,
        inner: ScoresAsGiven,
        rows: tuple[LayerRow, ...],
        *,
        context: Callable[[float], AllocationContext] | None,
        power: float,
    ) -> None:
        self.inner, self.layers = inner, rows
        self._context, self._power = context, power
        self._sizes = np.array([row.weights for row in rows], dtype=np.int64)
        self.dense, self.loss, self.metric = inner.dense, inner.loss, inner.metric

    @abstractmethod
    def placed(self, ticks: IntArray) -> IntArray:
        """(L,) what (L,) ticks come to: whole zeros, or places on ladders."""

    def given(self, placed: IntArray) -> Any:
        """The same as the inner evaluator takes it."""
        return placed

    def __getstate__(self) -> dict[str, object]:
        """Worker processes score, and need no context."""
        return self.__dict__ | {"_context": None}

    def context(self, config: WeightSparseConfig) -> AllocationContext:
        """The context at the target of the settings, a share of the cost that is saved."""
        if self._context is None:
            raise RuntimeError("a copy in a worker process has no context")
        return self._context(config.ws_prune_ratio)

    def rewarded(self) -> str:
        """See `Evaluator`."""
        return self.inner.rewarded()

    def on(self, split: Split) -> Self:
        """See `Evaluator`."""
        other = copy.copy(self)
        other.inner = self.inner.on(split)
        return other

    def checked(self, ticks: IntArray) -> IntArray:
        """Check a candidate; return it as int64.

        Raises:
            ValueError: It does not match the table.
        """
        ticks, sizes = np.asarray(ticks), self._sizes
        if ticks.shape != sizes.shape or not np.issubdtype(ticks.dtype, np.integer):
            raise ValueError(f"candidate of shape {ticks.shape}: must be {len(sizes)} whole ticks")
        if ((ticks < 0) | (ticks > sizes)).any():
            raise ValueError("candidate: saves more ticks than a layer has")
        return ticks.astype(np.int64)

    def scored(self, ticks: IntArray) -> IntArray:
        """What a rollout builds: the milder profile, placed."""
        return self.placed(as_scored(self.checked(ticks), self._sizes, power=self._power))

    def score(self, ticks: IntArray) -> Score:
        """Score a candidate; if it fails twice, return the worst score with the reason."""
        return self.inner.score(self.given(self.scored(ticks)))

    def network(self, ticks: IntArray) -> nn.Module:
        """The pruned, regressed and fine-tuned network of a candidate as it is."""
        return self.inner.network(self.given(self.placed(ticks)))
