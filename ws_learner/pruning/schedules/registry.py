"""Schedules by the name they have on the command line (`--ws_schedule`)."""

from __future__ import annotations

from typing import Literal

from ws_learner.core import UserError
from ws_learner.pruning.schedules.epoch_schedule import EpochLinearSchedule
from ws_learner.pruning.schedules.oneshot import FromInitial, OneShotSchedule
from ws_learner.pruning.schedules.polynomial import (
    CosineSchedule,
    CubeSchedule,
    ExponentialSchedule,
    LinearSchedule,
    PolynomialSchedule,
    Schedule,
)

__all__ = ["ScheduleName", "build_schedule"]

ScheduleName = Literal[
    "polynomial", "linear", "cube", "cos", "exp", "oneshot", "epoch-linear", "epoch-linear-old"
]


def build_schedule(
    name: ScheduleName,
    *,
    begin: int,
    end: int,
    target: float,
    initial: float = 0.0,
    exponent: float = 3.0,
    steps_per_epoch: int | None = None,
    update_frequency: float = 1.0,
) -> Schedule:
    """Lay a schedule between two steps.

    Args:
        name: `oneshot` goes to the target at `end`. The epoch ones run over the epochs in which
            the first and the last of the steps from `begin` up to `end` lie.
        begin: First step, from 0.
        end: Last step, above `begin`.
        target: Final sparsity, in [0, 1].
        initial: Sparsity at `begin`, in [0, target].
        exponent: Of `polynomial`, above 0.
        steps_per_epoch: Needed by the epoch schedules.
        update_frequency: Epochs between updates of the epoch schedules.

    Raises:
        UserError: The initial sparsity is above the target, or something is missing.
    """
    if not 0 <= initial <= target:
        raise UserError(f"`initial_ratio` {initial}: allowed are 0 to the target, {target}")
    schedule: Schedule
    if name in ("linear", "cube", "cos"):
        kind = {"linear": LinearSchedule, "cube": CubeSchedule, "cos": CosineSchedule}[name]
        schedule = kind(begin, end)
    elif name == "exp":
        left = (target - initial) / (1 - initial) if initial < 1 else 0.0
        schedule = _exponential(left, begin, end)
    elif name == "oneshot":
        schedule = OneShotSchedule(end)
    elif name == "polynomial":
        schedule = PolynomialSchedule(begin, end, exponent)
    else:
        if steps_per_epoch is None:
            raise UserError(f"`ramp` {name}: how many steps an epoch has is not known")
        first = begin // steps_per_epoch
        schedule = EpochLinearSchedule(
            start_epoch=first,
            end_epoch=max(first, -(-end // steps_per_epoch) - 1),
            steps_per_epoch=steps_per_epoch,
            update_frequency=update_frequency,
            formula="old" if name.endswith("old") else "new",
        )
    return FromInitial(schedule, initial / target) if initial else schedule


def _exponential(left: float, begin: int, end: int) -> Schedule:
    """The exponential curve; any other where the sparsity does not rise."""
    if left >= 1:
        raise UserError("`ramp` exp cannot reach a prune ratio of 1; choose another")
    return ExponentialSchedule(begin, end, left) if left > 0 else LinearSchedule(begin, end)
