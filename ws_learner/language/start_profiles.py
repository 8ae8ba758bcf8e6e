"""Profiles that a search over the ratios of blocks starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs import FloatArray, IntArray
from ws_learner.language.marginal import marginal_divergences, marginal_profile
from ws_learner.language.rollouts import Rollouts
from ws_learner.search import (
    CLOSED_FORM,
    AllocationContext,
    owl_of_shares,
    progression_at,
    zeros_at_offsets,
)

__all__ = ["SLOPES", "marginal_profiles", "shaped", "start_profiles"]

SLOPES = (0.1, 0.2, 0.3)
"""Ratio of the last block minus that of the first."""
_SHAPES = ((0.2, 0.1), (0.2, -0.1), (0.1, 0.1))
_REACHES = (1, 2)


def start_profiles(context: AllocationContext, outliers: Sequence[float]) -> dict[str, IntArray]:
    """(B,) zeros by name: uniform, slopes, curved slopes, progression, divergence, owl.

    Args:
        context: Blocks as layers, with their own divergences.
        outliers: (B,) share of outlying scores, for owl.
    """
    found = {"uniform": CLOSED_FORM["uniform"](context)}
    found |= {f"slope {slope:g}": progression_at(context, slope) for slope in SLOPES}
    found |= {
        f"slope {slope:g}, ends {ends:+g}": shaped(context, slope=slope, ends=ends)
        for slope, ends in _SHAPES
    }
    found |= {name: CLOSED_FORM[name](context) for name in ("progression", "divergence")}
    return found | {"owl": owl_of_shares(np.array(outliers), context)}


def shaped(context: AllocationContext, *, slope: float, ends: float) -> IntArray:
    """(B,) zeros at ratios on a parabola over depth, exact in sum.

    Args:
        context: Budget and bounds.
        slope: Ratio of the last block minus that of the first.
        ends: Mean ratio of these two minus that of the middle block.
    """
    depth: FloatArray = np.linspace(-1, 1, len(context.layers))
    return zeros_at_offsets(slope / 2 * depth + ends * depth**2, context)


def marginal_profiles(
    rollouts: Rollouts, starts: dict[str, IntArray], *, budget: int, folder: Path
) -> dict[str, IntArray]:
    """(B,) zeros by name: the least sum of marginal divergences near the best start profile.

    None, if the start profiles' predictions are not finite.

    Args:
        rollouts: Scores the start profiles.
        starts: Profiles by name.
        budget: Zeros of the network.
        folder: For what is measured.

    Raises:
        UserError: The disk is full.
    """
    solved, weights = rollouts.solved, rollouts.weights
    by_levels = {name: solved.levels(zeros, weights) for name, zeros in starts.items()}
    costs = {name: rollouts.measure(levels).divergence for name, levels in by_levels.items()}
    finite = [name for name, cost in costs.items() if math.isfinite(cost)]
    if not finite:
        return {}
    best = min(finite, key=costs.__getitem__)
    found = marginal_divergences(rollouts, by_levels[best], folder=folder)
    return {
        f"marginal, {reach} levels from {best}": marginal_profile(
            rollouts, by_levels[best], found, budget=budget, reach=reach
        )
        for reach in _REACHES
    }
