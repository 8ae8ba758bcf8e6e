"""One-shot schedule, and wrappers that start any schedule at a nonzero sparsity."""

from __future__ import annotations

from dataclasses import dataclass

from ws_learner.pruning.schedules.polynomial import Schedule

__all__ = ["BeyondHeld", "FromInitial", "OneShotSchedule"]


@dataclass(frozen=True)
class OneShotSchedule:
    """The final sparsity at a single step.

    Attributes:
        step: At least 0; 0 is before the first optimizer step.
    """

    step: int

    @property
    def begin_step(self) -> int:
        """See `Schedule`."""
        return self.step

    @property
    def end_step(self) -> int:
        """See `Schedule`."""
        return self.step

    def share(self, step: int) -> float:
        """See `Schedule`."""
        return float(step >= self.step)

    def update_steps(self, every: int) -> tuple[int, ...]:
        """See `Schedule`."""
        return (self.step,)

    def is_update(self, step: int, every: int) -> bool:
        """See `Schedule`."""
        return step == self.step


@dataclass(frozen=True)
class FromInitial:
    """A schedule that starts at an initial sparsity: initial + (1 - initial) x share.

    Attributes:
        schedule: What follows.
        initial: Initial sparsity over final sparsity, in [0, 1]; planned from `begin_step` on.
    """

    schedule: Schedule
    initial: float

    @property
    def begin_step(self) -> int:
        """See `Schedule`."""
        return self.schedule.begin_step

    @property
    def end_step(self) -> int:
        """See `Schedule`."""
        return self.schedule.end_step

    def share(self, step: int) -> float:
        """See `Schedule`."""
        if step < self.begin_step:
            return 0.0
        if step >= self.end_step:
            return 1.0
        return self.initial + (1 - self.initial) * self.schedule.share(step)

    def update_steps(self, every: int) -> tuple[int, ...]:
        """See `Schedule`."""
        return self.schedule.update_steps(every)

    def is_update(self, step: int, every: int) -> bool:
        """See `Schedule`."""
        return self.schedule.is_update(step, every)


@dataclass(frozen=True)
class BeyondHeld:
    """A schedule for already sparse weights whose zeros are kept: the part of the way beyond them.

    Attributes:
        schedule: Shares of the whole way; begins at `share_held`.
        share_held: Sparsity that is there over final sparsity, in [0, 1).
    """

    schedule: Schedule
    share_held: float

    @property
    def begin_step(self) -> int:
        """See `Schedule`."""
        return self.schedule.begin_step

    @property
    def end_step(self) -> int:
        """See `Schedule`."""
        return self.schedule.end_step

    def share(self, step: int) -> float:
        """See `Schedule`."""
        return max(0.0, (self.schedule.share(step) - self.share_held) / (1 - self.share_held))

    def update_steps(self, every: int) -> tuple[int, ...]:
        """See `Schedule`."""
        return self.schedule.update_steps(every)

    def is_update(self, step: int, every: int) -> bool:
        """See `Schedule`."""
        return self.schedule.is_update(step, every)
