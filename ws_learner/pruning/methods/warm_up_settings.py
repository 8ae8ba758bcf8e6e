"""Settings protocol of threshold movement."""

from __future__ import annotations

from typing import Protocol

from ws_learner.pruning.patterns.structured import Rule, UnitGroup
from ws_learner.pruning.schedules.movement_warmup import WarmUp

__all__ = ["WarmUpSettings"]


class WarmUpSettings(Protocol):
    """Settings protocol; implemented by `ThresholdMovementConfig`."""

    @property
    def importance_regularization_factor(self) -> float:
        """Penalty factor at the end."""

    @property
    def init_importance_threshold(self) -> float | None:
        """Threshold at the beginning."""

    @property
    def final_importance_threshold(self) -> float:
        """Threshold at the end."""

    @property
    def steps_per_epoch(self) -> int | None:
        """None: to be counted."""

    @property
    def rule(self) -> Rule | None:
        """How units are resolved after the warm-up."""

    @property
    def groups(self) -> tuple[UnitGroup, ...]:
        """Which units."""

    def warm_up(self, steps_per_epoch: int) -> WarmUp:
        """The schedule."""
