"""Schedules of N:M training: phases, mask values, stages. All are pure functions of the step.

Steps are optimizer steps done: a training of T steps does its first forward pass at step 0 and is
over at step T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ws_learner.core import UserError, check_settings
from ws_learner.pruning.patterns.nm import NM

__all__ = ["Decay", "MaskDecay", "Phases", "StageShape", "stage_patterns"]

Decay = Literal["step", "linear", "exponential"]
StageShape = Literal["stepwise", "geometric"]

_NEARLY_ZERO = 1e-3


@dataclass(frozen=True, kw_only=True)
class Phases:
    """Dense up to `begin`, sparse up to `fine_tune`, then under the exact pattern up to `total`.

    Attributes:
        begin: First step whose forward pass is masked, from 0.
        fine_tune: First step under the final binary mask, from `begin` to `total`.
        total: Steps of the whole training.

    Raises:
        UserError: They are out of order.
    """

    begin: int
    fine_tune: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.fine_tune <= self.total:
            raise UserError(
                f"{self.total} steps leave no sparse phase between a dense one of {self.begin} and "
                f"fine-tuning from step {self.fine_tune}: shorten `nm_dense_epochs` or "
                "`nm_fine_tune_epochs`, or train longer"
            )

    @classmethod
    def of_shares(cls, total: int, *, dense: float, fine_tune: float) -> Phases:
        """Phases by their shares of all steps, in [0, 1]; boundaries are rounded down."""
        return cls(
            begin=_floor(dense, total), fine_tune=_floor(_rest(fine_tune), total), total=total
        )

    @classmethod
    def of_epochs(
        cls, total: int, *, steps_per_epoch: int, dense: float, fine_tune: float
    ) -> Phases:
        """Phases by their lengths in epochs, fractions allowed, rounded to whole steps."""
        begin, end = (round(epochs * steps_per_epoch) for epochs in (dense, fine_tune))
        if (dense + fine_tune) * steps_per_epoch <= total + 1e-6:  # both may be rounded upwards
            end = min(end, total - begin)
        return cls(begin=begin, fine_tune=total - end, total=total)

    @property
    def sparse_steps(self) -> int:
        """Length of the phase in which masks decay or patterns tighten."""
        return self.fine_tune - self.begin


@dataclass(frozen=True, kw_only=True)
class MaskDecay:
    """D(j), the multiplier of pruned weights at step j of the sparse phase.

    Bambhaniya et al. 2025, section 3 (MdGf). linear: max(1 - beta j, 0); exponential:
    exp(-beta j), taken for 0 from 0.001 down; step: 0. D is 1 before the sparse phase and 0 from
    the fine-tuning on.

    Attributes:
        phases: When the sparse phase is.
        decay: Which curve.
        beta: Decay per step, above 0; None: by `zero_at`.
        zero_at: Share of the sparse phase after which D is 0, in (0, 1].
    """

    phases: Phases
    decay: Decay
    beta: float | None = None
    zero_at: float = 0.9

    def __post_init__(self) -> None:
        check_settings(self)

    def rate(self) -> float:
        """Beta, given or derived."""
        if self.beta is not None:
            return self.beta
        length = max(self.zero_at * self.phases.sparse_steps, 1.0)
        return (1.0 if self.decay == "linear" else -math.log(_NEARLY_ZERO)) / length

    def value(self, step: int) -> float:
        """D after `step` optimizer steps of the whole training, in [0, 1]."""
        if step < self.phases.begin:
            return 1.0
        if step >= self.phases.fine_tune or self.decay == "step":
            return 0.0
        done = self.rate() * (step - self.phases.begin)
        if self.decay == "linear":
            return max(1.0 - done, 0.0) if done < 1 - 1e-12 else 0.0
        value = math.exp(-done)
        # A user-given beta applies for the length of the phase.
        return value if self.beta is not None or value > _NEARLY_ZERO * (1 + 1e-9) else 0.0


def stage_patterns(
    target: NM, shape: StageShape, stages: int | None, *, width: int
) -> tuple[NM, ...]:
    """The patterns that SdGf goes through, the last one always the target.

    stepwise: M-1:M, then N halves: M/2:M, M/4:M, ... (rounded down) while above the target. With
    `stages` given the kept weights fall from M-1 to N in equal factors instead.
    geometric: kN:kM with k halved from stage to stage, ..., 2N:2M, N:M; k is 2^(stages - 1),
    5 stages by default (the paper's 16:128 for 1:8; its code has 4). Where k M is more than a row
    of `width` weights, such a stage uses the largest k that fits.

    Args:
        target: N:M.
        shape: Which of the two.
        stages: How many, from 1.
        width: Weights along a row (or a column), along which groups run.
    """
    if shape == "geometric":
        count = 5 if stages is None else stages
        factors = [2**power for power in reversed(range(count))]
        return tuple(_scaled(target, factor, width) for factor in factors)
    if stages is None:
        kept = [target.m - 1]
        half = target.m // 2
        while half > target.n:
            kept.append(half)
            half //= 2
        kept = sorted({*kept, target.n}, reverse=True)
    else:
        ratio = target.n / max(target.m - 1, 1)
        shares = [i / max(stages - 1, 1) for i in range(stages)] if stages > 1 else [1.0]
        kept = [max(target.n, round((target.m - 1) * ratio**share)) for share in shares]
        kept[-1] = target.n
    return tuple(NM(n, target.m, columns=target.columns) for n in kept)


def _scaled(target: NM, factor: int, width: int) -> NM:
    while factor > 1 and factor * target.m > width:
        factor //= 2
    return NM(factor * target.n, factor * target.m, columns=target.columns)


def stage_of(step: int, count: int, phases: Phases) -> int:
    """Number of the stage at a step: the sparse phase is split evenly, the last one stays on."""
    if step >= phases.fine_tune or not phases.sparse_steps:
        return count - 1
    done = max(step - phases.begin, 0)
    return min(done * count // phases.sparse_steps, count - 1)


def _floor(share: float, total: int) -> int:
    # The decimal the user wrote, see `schedule`: 0.29 of 100 is 29.
    return math.floor(Fraction(repr(float(share))) * total)


def _rest(share: float) -> float:
    return float(1 - Fraction(repr(float(share))))
