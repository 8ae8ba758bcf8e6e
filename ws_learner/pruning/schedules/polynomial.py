"""Schedules: the share of its target sparsity that a layer has at each optimizer step.

All are pure functions of the step. A schedule that begins at sparsity i instead of 0 is
`FromInitial`, see `oneshot`; epochs are in `epoch_schedule`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from ws_learner.core import UserError

__all__ = [
    "USUAL_INTERVAL",
    "CosineSchedule",
    "CubeSchedule",
    "ExponentialSchedule",
    "LinearSchedule",
    "PolynomialSchedule",
    "Schedule",
    "check_ratios",
    "ramp_steps",
    "usual_interval",
]

USUAL_INTERVAL = 25
"""Optimizer steps between mask updates, where none were chosen and the ramp is long."""

_UPDATES = 10


class Schedule(Protocol):
    """When masks are updated, and which share of the final sparsity is reached then."""

    @property
    def begin_step(self) -> int:
        """First step at which masks may change."""

    @property
    def end_step(self) -> int:
        """Step of the last update; the share is exactly 1 from here on."""

    def share(self, step: int) -> float:
        """Share of the final sparsity planned after `step` optimizer steps, in [0, 1]."""

    def update_steps(self, every: int) -> tuple[int, ...]:
        """Steps after which masks are renewed, ascending; the last one is `end_step`."""

    def is_update(self, step: int, every: int) -> bool:
        """True if `step` is one of `update_steps(every)`."""


@dataclass(frozen=True)
class _Ramp:
    """From 0 to 1 between two steps.

    Attributes:
        begin_step: t_b, at least 0; the share is 0 up to here.
        end_step: t_e, above t_b; the share is exactly 1 from here on.

    Raises:
        ValueError: A value is outside its range.
    """

    begin_step: int
    end_step: int

    def __post_init__(self) -> None:
        if not 0 <= self.begin_step < self.end_step:
            raise ValueError(
                f"a ramp from step {self.begin_step} to step {self.end_step}: "
                "needs 0 <= begin < end"
            )

    def share(self, step: int) -> float:
        """Share of the final sparsity planned after `step` optimizer steps, in [0, 1]."""
        if step <= self.begin_step:
            return 0.0
        if step >= self.end_step:
            return 1.0
        return self._rise((step - self.begin_step) / (self.end_step - self.begin_step))

    def _rise(self, done: float) -> float:
        raise NotImplementedError

    def update_steps(self, every: int) -> tuple[int, ...]:
        """Steps after which masks are renewed: t_b, t_b + every, ..., and always t_e itself."""
        if every < 1:
            raise ValueError(f"mask updates every {every} steps: needs at least 1")
        return (*range(self.begin_step, self.end_step, every), self.end_step)

    def is_update(self, step: int, every: int) -> bool:
        """True if `step` is one of `update_steps(every)`."""
        inside = self.begin_step <= step < self.end_step
        return (inside and (step - self.begin_step) % every == 0) or step == self.end_step


@dataclass(frozen=True)
class PolynomialSchedule(_Ramp):
    """Rise fast at first (Zhu & Gupta 2017, section 3): 1 - (1 - c) ** exponent.

    c = (t - t_b) / (t_e - t_b) is the share of the steps that are done, here and below.

    Attributes:
        exponent: Above 0; 1 is a straight line, 3 the usual cubic.
    """

    exponent: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.exponent < math.inf:
            raise ValueError(f"exponent {self.exponent} must be positive and finite")

    def _rise(self, done: float) -> float:
        return float(1.0 - (1.0 - done) ** self.exponent)

    @classmethod
    def from_ratios(
        cls,
        total_steps: int,
        ws_iter_ratio_beg: float,
        ws_iter_ratio_end: float,
        exponent: float = 3.0,
    ) -> PolynomialSchedule:
        """Place the ramp by shares of all optimizer steps: t_b and t_e are rounded down.

        Args:
            total_steps: Optimizer steps of the whole training.
            ws_iter_ratio_beg: Share at which the ramp begins, in [0, 1).
            ws_iter_ratio_end: Share at which it ends, above the begin, at most 1.
            exponent: See the class.

        Raises:
            UserError: The shares are out of order, or leave no step for the ramp.
        """
        check_ratios(ws_iter_ratio_beg, ws_iter_ratio_end)
        begin, end = ramp_steps(total_steps, ws_iter_ratio_beg, ws_iter_ratio_end)
        if begin >= end:
            raise UserError(
                f"a training of {total_steps} steps has no step between `iter_ratio_beg` "
                f"{ws_iter_ratio_beg} and `iter_ratio_end` {ws_iter_ratio_end}: "
                "raise `nb_epochs` or move the two ratios apart"
            )
        return cls(begin, end, exponent)


@dataclass(frozen=True)
class LinearSchedule(_Ramp):
    """Rise evenly: c."""

    def _rise(self, done: float) -> float:
        return done


@dataclass(frozen=True)
class CubeSchedule(_Ramp):
    """Rise slowly at first: c ** 3, what Neural Compressor calls cube."""

    def _rise(self, done: float) -> float:
        return done**3


@dataclass(frozen=True)
class CosineSchedule(_Ramp):
    """Rise slowly at first: 1 - cos(pi c / 2), Neural Compressor's cos."""

    def _rise(self, done: float) -> float:
        return 1.0 - math.cos(math.pi * done / 2)


@dataclass(frozen=True)
class ExponentialSchedule(_Ramp):
    """The density falls by the same factor at every step, Neural Compressor's exp.

    The sparsity is 1 - (1 - target) ** c, the share of it (1 - (1 - target) ** c) / target.

    Attributes:
        target: Final sparsity, in (0, 1). With an initial sparsity i: (target - i) / (1 - i).
    """

    target: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.target < 1:
            raise ValueError(f"an exponential schedule needs a target in (0, 1), not {self.target}")

    def _rise(self, done: float) -> float:
        return float((1.0 - (1.0 - self.target) ** done) / self.target)


def check_ratios(ws_iter_ratio_beg: float, ws_iter_ratio_end: float) -> None:
    """Check that the shares leave room for a ramp.

    Raises:
        UserError: Not 0 <= ws_iter_ratio_beg < ws_iter_ratio_end <= 1.
    """
    if not 0 <= ws_iter_ratio_beg < ws_iter_ratio_end <= 1:
        raise UserError(
            f"`iter_ratio_beg` {ws_iter_ratio_beg} and `iter_ratio_end` "
            f"{ws_iter_ratio_end}: allowed are 0 <= beginning < end <= 1"
        )


def usual_interval(ramp: int) -> int:
    """Steps between mask updates on a ramp of so many steps, where none were chosen.

    25, or fewer for about ten updates: with two or three, most weights would go at once.
    """
    return min(USUAL_INTERVAL, max(1, ramp // _UPDATES))


def ramp_steps(
    total_steps: int, ws_iter_ratio_beg: float, ws_iter_ratio_end: float
) -> tuple[int, int]:
    """First and last step of a ramp placed by shares of all steps, rounded down."""
    return _floor(total_steps, ws_iter_ratio_beg), _floor(total_steps, ws_iter_ratio_end)


def _floor(total: int, ratio: float) -> int:
    # The decimal the user wrote: 100 * 0.29 is 28.999... in binary, and would round down to 28.
    return math.floor(Fraction(repr(float(ratio))) * total)
