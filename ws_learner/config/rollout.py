"""Settings of a rollout. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ws_learner.core import UserError, check_settings

__all__ = ["LEVELS", "RegressionSolver", "RewardSignal", "RewardType", "RolloutConfig"]

RegressionSolver = Literal["closed-form", "adam", "none"]
RewardSignal = Literal["accuracy", "kl"]
RewardType = Literal["single-obj", "multi-obj"]

LEVELS = (
    *(0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8),
    *(0.84, 0.87, 0.9, 0.92, 0.94, 0.955, 0.97, 0.98, 0.99, 0.995),
)
"""Ratios of the error curves: about evenly spaced in the logarithm of the density."""

_LEAST = {
    "nb_iters_rg": 1,
    "nb_iters_ft": 0,
    "batch_size": 1,
    "batch_size_ft": 1,
    "batch_size_eval": 1,
    "nb_smpls_rg": 1,
    "nb_smpls_bn": 0,
    "nb_smpls_slope": 0,
    "nb_smpls_own": 1,
}


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How one candidate is pruned, repaired and scored.

    Attributes:
        rg_solver: Layer-wise regression by masked least squares, by PocketFlow's Adam steps, or
            none.
        lrn_rate_rg: Learning rate of the Adam regression.
        nb_iters_rg: Steps per layer of the Adam regression.
        lrn_rate_ft: Adam learning rate of global fine-tuning.
        nb_iters_ft: Steps of global fine-tuning; 0 for none.
        nb_iters_feval: Batches of the search split in a fast evaluation; 0 or less takes all.
        batch_size: Images per batch of calibration, recalibration and the Adam regression.
        batch_size_ft: Images per step of fine-tuning.
        batch_size_eval: Images per batch of a fast evaluation.
        nb_smpls_rg: Training images behind the Gram matrices.
        nb_smpls_bn: Training images on which batch norm is recalibrated; 0 leaves it as it is.
        nb_smpls_slope: Search images on which a rollout's slopes are measured, rounded up to
            whole batches; 0 for no slopes.
        nb_smpls_own: The same for the layers' own divergences.
        pattern: Spelling of what is pruned together.
        pool: How magnitudes are pooled over a unit of the pattern.
        reward_signal: `accuracy`, which is the metric, or `kl`: exp(-divergence from the dense
            network), which lies in (0, 1] like accuracy, but sees changes that flip no prediction.
            For classes the divergence is the KL divergence.
        score_power: A candidate is scored with all its densities scaled by one factor, so that
            the network keeps its overall density to this power, in (0, 1]; 1 scores it as it is.
        reward_type: `single-obj` takes that as the reward; `multi-obj` multiplies it by
            ln(1 + overall prune ratio), as PocketFlow does.
        levels: Ascending ratios in [0, 1) at which error curves are measured.
    """

    rg_solver: RegressionSolver = "closed-form"
    lrn_rate_rg: float = 3e-2
    nb_iters_rg: int = 20
    lrn_rate_ft: float = 3e-4
    nb_iters_ft: int = 0
    nb_iters_feval: int = 5
    batch_size: int = 128
    batch_size_ft: int = 64
    batch_size_eval: int = 100
    nb_smpls_rg: int = 512
    nb_smpls_bn: int = 256
    nb_smpls_slope: int = 0
    nb_smpls_own: int = 100
    reward_signal: RewardSignal = "kl"
    score_power: float = 0.75
    reward_type: RewardType = "single-obj"
    levels: tuple[float, ...] = LEVELS
    pattern: str = "unstructured"
    pool: Literal["mean", "sum", "max"] = "mean"

    def __post_init__(self) -> None:
        check_settings(self)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise UserError(f"`{name}` {value}: must be at least {least}")
        for name in ("lrn_rate_rg", "lrn_rate_ft"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"`{name}` {value}: must be a number above 0")
        if not 0 < self.score_power <= 1:
            raise UserError(f"`score_power` {self.score_power}: must be above 0, at most 1")
        pairs = zip(self.levels, self.levels[1:], strict=False)
        inside = bool(self.levels) and self.levels[0] >= 0 and self.levels[-1] < 1
        if not inside or not all(low < high for low, high in pairs):
            raise UserError(f"levels {self.levels}: must be ascending ratios in [0, 1)")
