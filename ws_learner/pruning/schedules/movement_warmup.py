"""The schedule of movement sparsity: threshold and penalty factor rise together, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ws_learner.core import UserError

__all__ = ["WarmUp", "check_warm_up"]


def check_warm_up(
    start: float, end: float, *, power: float, steps_per_epoch: int | None, counted: bool
) -> list[str]:
    """What is wrong with the settings, one line each; empty if nothing is.

    Args:
        start: warmup_start_epoch.
        end: warmup_end_epoch.
        power: Of the schedule.
        steps_per_epoch: None: to be counted.
        counted: Whether counting is possible only by watching the first epoch.
    """
    found = []
    if steps_per_epoch is None and counted and start < 1:
        found.append(
            f"warmup_start_epoch {start:g}: must be >= 1 to enable the auto calculation of "
            "steps_per_epoch; give steps_per_epoch or begin later"
        )
    if not (0 <= start < end < math.inf):
        found.append(
            f"warmup_start_epoch {start:g} and warmup_end_epoch {end:g}: must be 0 <= "
            "warmup_start_epoch < warmup_end_epoch"
        )
    if not 0 < power < math.inf:
        found.append(f"power {power:g}: must be a number above 0")
    if steps_per_epoch is not None and (steps_per_epoch < 1 or steps_per_epoch % 1):
        found.append(f"steps_per_epoch {steps_per_epoch:g}: must be a whole number from 1")
    return found


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """From epoch `start` (inclusive) to epoch `end` (exclusive), both perhaps with a fraction.

    Attributes:
        start: Epoch, from 0.
        end: Epoch, above `start`.
        steps_per_epoch: Optimizer steps of an epoch.
        power: Of 1 - (1 - progress)^power.

    Raises:
        UserError: A value is outside its range, or the warm-up has no step.
    """

    start: float
    end: float
    steps_per_epoch: int
    power: float = 3.0

    def __post_init__(self) -> None:
        found = check_warm_up(
            self.start,
            self.end,
            power=self.power,
            steps_per_epoch=self.steps_per_epoch,
            counted=False,
        )
        if not found and self.begin_step >= self.end_step:
            found = [
                f"warmup_start_epoch {self.start:g} to warmup_end_epoch {self.end:g}: no step of "
                f"{self.steps_per_epoch} an epoch lies between; make the warm-up longer"
            ]
        if found:
            raise UserError("movement: " + "; ".join(found))

    @property
    def begin_step(self) -> int:
        """First step of the warm-up."""
        return int(self.start * self.steps_per_epoch)

    @property
    def end_step(self) -> int:
        """First step after it."""
        return int(self.end * self.steps_per_epoch)

    def share(self, step: int) -> float:
        """0 before and at the first step, 1 from the end on, 1 - (1 - p)^power between."""
        if step < self.begin_step:
            return 0.0
        if step >= self.end_step:
            return 1.0
        done = (step - self.begin_step) / self.steps_per_epoch / (self.end - self.start)
        return float(1.0 - (1.0 - min(max(done, 0.0), 1.0)) ** self.power)
