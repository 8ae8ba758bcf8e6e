"""The milder profile at which a candidate is scored."""

from __future__ import annotations

import numpy as np

from envs.budget import project
from envs.problem import FloatArray, IntArray

__all__ = ["as_scored", "log_densities"]


def as_scored(zeros: IntArray, sizes: IntArray, *, power: float) -> IntArray:
    """Return the profile that is scored for a candidate, see `RolloutConfig.score_power`.

    All densities are multiplied by one factor and clipped to 1, so that the network keeps
    (its density)^`power` of its weights.

    Args:
        zeros: (L,) zero counts.
        sizes: (L,) number of weights of each layer.
        power: In (0, 1]; 1 returns the candidate itself.
    """
    total = int(sizes.sum())
    density = 1 - int(zeros.sum()) / total
    budget = total - round(total * density**power)
    return project(zeros, budget=budget, lower=0 * sizes, upper=zeros, weights=sizes)


def log_densities(zeros: IntArray, sizes: IntArray) -> FloatArray:
    """(L,) ln densities of a profile; an empty layer counts as half a weight kept."""
    logs: FloatArray = np.log(np.maximum(sizes - zeros, 0.5) / sizes)
    return logs
