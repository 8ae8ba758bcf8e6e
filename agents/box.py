"""Least predicted divergence at one target, within a box around a known profile."""

from __future__ import annotations

import numpy as np

from agents.critic import ProfileCritic
from agents.settle import Settling
from envs import FloatArray

__all__ = ["minimise"]

_STEPS = 40
_BETA1, _BETA2 = 0.8, 0.95


def minimise(
    critic: ProfileCritic,
    budget: Settling,
    *,
    starts: FloatArray,
    centre: FloatArray,
    radius: float,
    moving: FloatArray,
    tilts: FloatArray | float = 0.0,
) -> tuple[FloatArray, FloatArray]:
    """Minimise the critic from M starts by Adam within +-`radius` of the centre.

    Args:
        critic: The critic.
        budget: The target's budget.
        starts: (M, L) ln densities on the budget.
        centre: (L,) ln densities on the budget.
        radius: Half the side of the box, in ln density.
        moving: (L,) 1 for layers that may move, 0 for others.
        tilts: (M, L) added to the slopes of each start, to sample what the critic does not know.

    Returns:
        (M, L) ln densities on the budget, and (M,) predicted ln(divergence) there.
    """
    low, high = centre - radius, centre + radius
    points = np.clip(starts, low, high)
    first, second = np.zeros_like(points), np.zeros_like(points)
    best_points, best = points.copy(), np.full(len(points), np.inf)
    for step in range(1, _STEPS + 1):
        settled = budget(points)
        mean, slopes = critic(settled.scored)
        slopes = slopes + tilts
        mean = mean + (tilts * settled.scored).sum(-1)
        better = mean < best
        best[better], best_points[better] = mean[better], settled.executed[better]
        gradient = budget.back(settled, slopes) * moving
        first = _BETA1 * first + (1 - _BETA1) * gradient
        second = _BETA2 * second + (1 - _BETA2) * gradient**2
        rate = 0.25 * radius * 0.5 * (1 + np.cos(np.pi * step / _STEPS))
        change = first / (1 - _BETA1**step) / (np.sqrt(second / (1 - _BETA2**step)) + 1e-8)
        points = np.clip(points - rate * change, low, high)
    return best_points, best
