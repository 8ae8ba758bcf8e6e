"""Schedules by the name they have on the command line (`--ws_schedule`)."""

from __future__ import annotations

from dataclasses import dataclass

from ws_learner.config import SCHEDULES, ScheduleName, load_object
from ws_learner.core import UserError
from ws_learner.pruning.schedules.epoch_schedule import EpochFormula, EpochLinearSchedule
from ws_learner.pruning.schedules.oneshot import FromInitial, OneShotSchedule
from ws_learner.pruning.schedules.polynomial import (
    CosineSchedule,
    CubeSchedule,
    ExponentialSchedule,
    LinearSchedule,
    PolynomialSchedule,
    Schedule,
)

__all__ = ["Ramp", "build_schedule"]


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """What a schedule is made from; see `build_schedule`.

    Attributes:
        begin: First step, from 0.
        end: Last step, above `begin`.
        left: Share of the weights that are there at `begin` and zero at the end, in [0, 1].
        exponent: Of `polynomial`, above 0.
        steps_per_epoch: Optimizer steps of an epoch, if it is known.
        update_frequency: Epochs between updates of the epoch schedules.
    """

    begin: int
    end: int
    left: float
    exponent: float = 3.0
    steps_per_epoch: int | None = None
    update_frequency: float = 1.0


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
    ramp = Ramp(
        begin=begin,
        end=end,
        left=(target - initial) / (1 - initial) if initial < 1 else 0.0,
        exponent=exponent,
        steps_per_epoch=steps_per_epoch,
        update_frequency=update_frequency,
    )
    schedule: Schedule = load_object(SCHEDULES.find(name).build)(ramp)
    return FromInitial(schedule, initial / target) if initial else schedule


def build_polynomial(ramp: Ramp) -> Schedule:
    """See `PolynomialSchedule`; this and those below are what `SCHEDULES` names."""
    return PolynomialSchedule(ramp.begin, ramp.end, ramp.exponent)


def build_linear(ramp: Ramp) -> Schedule:
    """See `LinearSchedule`."""
    return LinearSchedule(ramp.begin, ramp.end)


def build_cube(ramp: Ramp) -> Schedule:
    """See `CubeSchedule`."""
    return CubeSchedule(ramp.begin, ramp.end)


def build_cos(ramp: Ramp) -> Schedule:
    """See `CosineSchedule`."""
    return CosineSchedule(ramp.begin, ramp.end)


def build_exp(ramp: Ramp) -> Schedule:
    """See `ExponentialSchedule`; any curve will do where there is nothing to rise to."""
    if ramp.left >= 1:
        raise UserError("`ramp` exp cannot reach a prune ratio of 1; choose another")
    if ramp.left <= 0:
        return LinearSchedule(ramp.begin, ramp.end)
    return ExponentialSchedule(ramp.begin, ramp.end, ramp.left)


def build_oneshot(ramp: Ramp) -> Schedule:
    """See `OneShotSchedule`."""
    return OneShotSchedule(ramp.end)


def build_epoch_linear(ramp: Ramp) -> Schedule:
    """See `EpochLinearSchedule`."""
    return _in_epochs(ramp, "epoch-linear", "new")


def build_epoch_linear_old(ramp: Ramp) -> Schedule:
    """See `EpochLinearSchedule`."""
    return _in_epochs(ramp, "epoch-linear-old", "old")


def _in_epochs(ramp: Ramp, name: str, formula: EpochFormula) -> Schedule:
    if ramp.steps_per_epoch is None:
        raise UserError(f"`ramp` {name}: how many steps an epoch has is not known")
    first = ramp.begin // ramp.steps_per_epoch
    return EpochLinearSchedule(
        start_epoch=first,
        end_epoch=max(first, -(-ramp.end // ramp.steps_per_epoch) - 1),
        steps_per_epoch=ramp.steps_per_epoch,
        update_frequency=ramp.update_frequency,
        formula=formula,
    )
