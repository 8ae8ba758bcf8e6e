"""Mask updates of LPOT's pruners: epochs (from 0) and sparsities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ws_learner.core import check_settings
from ws_learner.pruning import EpochFormula, EpochLinearSchedule, Pattern, Unstructured, as_pattern

__all__ = ["EpochPlan", "PlanKind"]

PlanKind = Literal["magnitude", "gradient", "snip", "snip_momentum", "sensitivity", "lock"]


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """The pruning plan of some parameters.

    Attributes:
        names: Parameters, by name.
        kind: A criterion; or `sensitivity` (|w g| added up over the steps; for heads and channels
            |sum of w g|), or `lock` (what is zero stays zero, nothing else is pruned).
        pattern: Which weights go together; of `mha` the numbers are read off the network.
        start_epoch: First epoch that may update masks at its beginning.
        end_epoch: Last epoch of the ramp, inclusive.
        initial: Sparsity at which the ramp starts, in [0, 1].
        target: Sparsity from the last update on, in [0, 1].
        frequency: Epochs between updates; below 1 a share of an epoch, at least one batch.
        formula: Which of LPOT's two schedules, see `EpochLinearSchedule`.
        alpha: Of the group lasso: alpha times the sum of the norms of the pattern's units.
    """

    names: tuple[str, ...]
    kind: PlanKind = "magnitude"
    pattern: Pattern = field(default_factory=Unstructured)
    start_epoch: int = 0
    end_epoch: int = 0
    initial: float = 0.0
    target: float = 0.0
    frequency: float = 1.0
    formula: EpochFormula = "new"
    alpha: float = 0.0

    def __post_init__(self) -> None:
        check_settings(self)
        object.__setattr__(self, "pattern", as_pattern(self.pattern))

    def schedule(self, batches: int | None) -> EpochLinearSchedule:
        """The schedule over batches. Without `batches` (per epoch): once per epoch at most."""
        return EpochLinearSchedule(
            start_epoch=self.start_epoch,
            end_epoch=self.end_epoch,
            steps_per_epoch=batches or 1,
            update_frequency=self.frequency if batches else max(self.frequency, 1.0),
            formula=self.formula,
        )

    def updates_done(self, epoch: int, batch: int, batches: int | None) -> int:
        """Updates that are due up to and with this batch, 0 before the start."""
        schedule, step = self.schedule(batches), _step(epoch, batch, batches)
        if step < schedule.begin_step:
            return 0
        past = min(step, schedule.end_step) - schedule.begin_step
        return past // schedule.period + 1 + (step >= schedule.end_step)

    def sparsity(self, epoch: int, batch: int, batches: int | None) -> float:
        """Planned share of zeros from this batch on; 0 before the start."""
        schedule, step = self.schedule(batches), _step(epoch, batch, batches)
        if step < schedule.begin_step:
            return 0.0
        share = schedule.share(step)
        return self.target if share >= 1 else self.initial + (self.target - self.initial) * share


def _step(epoch: int, batch: int, batches: int | None) -> int:
    """Batches since epoch 0, if every epoch had as many as it should."""
    return epoch * batches + min(batch, batches - 1) if batches else epoch
