"""Exploration: truncated-normal action noise and its decay schedule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["NoiseSchedule", "truncated_normal"]


def truncated_normal(
    mean: ArrayLike, std: float, *, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw from a normal distribution truncated to [-1, 1].

    Unlike clipping, this puts no probability mass on the bounds. One uniform number is drawn per
    entry (inverse of the distribution function), independent of mean and spread.

    Args:
        mean: Mean before truncation, any shape, in [-1, 1].
        std: Standard deviation before truncation; 0 returns `mean`.
        rng: Random generator.

    Returns:
        An array with the shape of `mean`, in [-1, 1].
    """
    from scipy.special import ndtr, ndtri

    centre = np.clip(np.asarray(mean, np.float64), -1.0, 1.0)
    share = rng.random(centre.shape)
    if std == 0:
        return centre
    below, above = ndtr((-1.0 - centre) / std), ndtr((1.0 - centre) / std)
    drawn: NDArray[np.float64] = centre + std * ndtri(below + share * (above - below))
    return np.clip(drawn, -1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """Standard deviation of exploration, in units of the action range [-1, 1], per rollout.

    It is `std_init` for the first `warm_up` rollouts, then decays geometrically to the floor
    `std_final`. AMC's schedule (0.5 x 0.95^k in units of [0, 1]) falls under 0.01 after 77
    rollouts and then repeats the same candidate; a floor keeps every rollout a new candidate.

    Attributes:
        std_init: Initial standard deviation, > 0.
        std_final: Floor, in [0, `std_init`].
        decay: Factor per rollout after the warm-up, in (0, 1].
        warm_up: Rollouts before the decay starts.
    """

    std_init: float
    std_final: float
    decay: float
    warm_up: int = 0

    def std(self, rollout: int) -> float:
        """Return the standard deviation of rollout number `rollout`, counted from 0."""
        return max(self.std_final, self.std_init * self.decay ** max(0, rollout - self.warm_up))
