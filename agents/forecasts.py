"""How well a critic predicted rollouts that it had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from agents.profile_buffer import observed
from agents.proposer import Trial
from envs import AllocationProblem

__all__ = ["Forecast", "critic_record"]

NOISE = 0.03
"""Standard deviation of ln(divergence) between like profiles, which no critic can predict."""
_LEAST = 1e-4
_FEWEST = 3


class Forecast(NamedTuple):
    """What a critic that has not seen a trial predicts for it.

    Attributes:
        known: Trials before its round.
        place: Its place in the round.
        mean: Predicted ln(divergence).
        deviation: Standard deviation by the critic's residual.
    """

    known: int
    place: int
    mean: float
    deviation: float


def critic_record(
    forecasts: Sequence[Forecast], history: Sequence[Trial], problem: AllocationProblem
) -> dict[str, Any] | None:
    """Compare forecasts with the scores that followed.

    Returns:
        `rounds` and `rollouts` compared; `rmse` of ln(divergence); `correlation`, None if it is
        undefined; `within_1` and `within_2`, the shares of rollouts within one and two deviations,
        of the critic and of the noise together. None if there is nothing to compare. Calibrated
        normal errors have 0.68 and 0.95.
    """
    pairs, rounds = [], set()
    for known, place, mean, deviation in forecasts:
        if known + place >= len(history) or not np.isfinite(deviation):
            continue
        trial = history[known + place]
        found = observed(trial.zeros, trial.score, problem)
        if found is not None:
            pairs.append((mean, deviation, np.log(max(found.value, _LEAST))))
            rounds.add(known)
    if not pairs:
        return None
    mean, deviation, truth = np.array(pairs).T
    error, spread = np.abs(mean - truth), np.hypot(deviation, NOISE)
    varies = len(pairs) >= _FEWEST and np.ptp(mean) > 0 and np.ptp(truth) > 0
    return {
        "rounds": len(rounds),
        "rollouts": len(pairs),
        "rmse": float(np.sqrt((error**2).mean())),
        "correlation": float(np.corrcoef(mean, truth)[0, 1]) if varies else None,
        "within_1": float((error <= spread).mean()),
        "within_2": float((error <= 2 * spread).mean()),
    }
