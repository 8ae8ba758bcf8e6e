"""LPOT's schedule: linear in whole epochs, rounded down to multiples of the update frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ws_learner.core import check_settings

__all__ = ["EpochFormula", "EpochLinearSchedule", "frequency_in_steps"]

EpochFormula = Literal["old", "new"]
"""old: LPOT 1.0 to Neural Compressor 1.12; new: Neural Compressor 1.13 and later."""


def frequency_in_steps(update_frequency: float, steps_per_epoch: int) -> int:
    """Steps between two updates of a frequency in epochs; below 1 a share of an epoch.

    At least one step. Halves are rounded to the even number.

    Raises:
        ValueError: The frequency is not above 0.
    """
    if not update_frequency > 0:
        raise ValueError(f"update frequency {update_frequency}: must be above 0")
    return max(1, round(update_frequency * steps_per_epoch))


@dataclass(frozen=True, kw_only=True)
class EpochLinearSchedule:
    """The sparsity of epoch e between s and E, with // as floor division, f the frequency.

    old: ((e - s) // f) f / (E - s);  new: ((e - s + 1) // f) f / (E - s + 1).

    Masks are renewed when an epoch begins, from s to E. A frequency below 1 renews them every
    n = max(1, round(f x steps_per_epoch)) steps: after k such intervals k n / ((E - s) S) under
    old, (k + 1) n / ((E - s + 1) S) under new, for S steps an epoch. There the formulas are the
    same as above with n / S for f, and f itself for whole epochs.
    The last update always goes to the target, where the originals could stop short of it; s = E
    goes there at once.

    Attributes:
        start_epoch: s, from 0.
        end_epoch: E, from s on, inclusive.
        steps_per_epoch: S, from 1.
        update_frequency: f, above 0.
        formula: Which of the two.

    Raises:
        ValueError: A value is outside its range.
    """

    start_epoch: int
    end_epoch: int
    steps_per_epoch: int
    update_frequency: float = 1.0
    formula: EpochFormula = "new"

    def __post_init__(self) -> None:
        check_settings(self)
        if not 0 <= self.start_epoch <= self.end_epoch:
            raise ValueError(
                f"epochs {self.start_epoch} to {self.end_epoch}: needs 0 <= start <= end"
            )
        if self.steps_per_epoch < 1 or not self.update_frequency > 0:
            raise ValueError(
                f"{self.steps_per_epoch} steps an epoch and an update frequency of "
                f"{self.update_frequency}: both must be above 0"
            )

    @property
    def period(self) -> int:
        """Steps between two updates."""
        return frequency_in_steps(min(self.update_frequency, 1.0), self.steps_per_epoch)

    @property
    def begin_step(self) -> int:
        """See `Schedule`."""
        return self.start_epoch * self.steps_per_epoch

    @property
    def end_step(self) -> int:
        """See `Schedule`: the last update."""
        epochs = self.end_epoch - self.start_epoch
        if epochs and self.formula == "new" and self.update_frequency < 1:
            steps = (epochs + 1) * self.steps_per_epoch
            return self.begin_step + (steps - 1) // self.period * self.period
        return self.end_epoch * self.steps_per_epoch

    def share(self, step: int) -> float:
        """See `Schedule`."""
        if step < self.begin_step:
            return 0.0
        if step >= self.end_step:
            return 1.0
        late = int(self.formula == "new")
        epochs = self.end_epoch - self.start_epoch + late
        if self.update_frequency < 1:
            intervals = (step - self.begin_step) // self.period + late
            return min(intervals * self.period / (epochs * self.steps_per_epoch), 1.0)
        done = (step - self.begin_step) // self.steps_per_epoch + late
        return min(done // self.update_frequency * self.update_frequency / epochs, 1.0)

    def update_steps(self, every: int = 1) -> tuple[int, ...]:
        """See `Schedule`; `every` is not used, the frequency is the schedule's own."""
        return (*range(self.begin_step, self.end_step, self.period), self.end_step)

    def is_update(self, step: int, every: int = 1) -> bool:
        """See `Schedule`; `every` is not used."""
        inside = self.begin_step <= step < self.end_step
        return (inside and (step - self.begin_step) % self.period == 0) or step == self.end_step
