"""Marginal divergences: each block moved alone, while all others are pruned to the target.

Damages of pruned blocks do not add up at high sparsity: a block that is harmless to lose alone may
be needed once the others are pruned. Here the other blocks are pruned already, so that the sum
of small changes predicts the network near that profile.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs import FloatArray, IntArray
from ws_learner.core import load_state_file, save_state_file, track
from ws_learner.language.rollouts import Rollouts
from ws_learner.search import solve_knapsack

__all__ = ["STEP", "marginal_divergences", "marginal_profile"]

STEP = 2
"""Levels of the database that a block is moved down and up; about a tenth in the ratio."""


def marginal_divergences(rollouts: Rollouts, levels: IntArray, *, folder: Path) -> FloatArray:
    """(B, 3) KL divergence in nats, with one block moved down by `STEP` levels, as is, and up.

    All others are at `levels`. Where a move leaves the database, NaN. The two moved networks of
    every block are held as hidden states: 8 bytes x blocks x tokens x width.

    Args:
        rollouts: Database and windows.
        levels: (B,) numbers of the blocks' ratios.
        folder: What was measured is kept there, also for other calls.

    Raises:
        UserError: The disk is full.
    """
    name = hashlib.sha256(" ".join(map(str, levels.tolist())).encode()).hexdigest()[:12]
    kept = folder / f"marginal_{name}.pt"
    if not kept.exists():
        save_state_file(kept, {"divergences": torch.from_numpy(_measured(rollouts, levels))})
    found: FloatArray = load_state_file(kept)["divergences"].numpy()
    return found


def _measured(rollouts: Rollouts, levels: IntArray) -> FloatArray:
    found = np.full((len(levels), 3), np.nan)
    hidden, last = rollouts.embedded.clone(), len(rollouts.solved.ratios) - 1
    moved: list[tuple[int, int, Tensor]] = []
    with track("measuring blocks around the target", total=len(levels)) as progress:
        for number, level in enumerate(levels.tolist()):
            own = []
            for place, other in ((0, level - STEP), (2, level + STEP)):
                if 0 <= other <= last:
                    own.append((number, place, hidden.clone()))
                    rollouts.run(number, other, own[-1][2])
            rollouts.run(number, level, [hidden, *(states for _, _, states in moved)])
            moved += own
            progress.advance()
    found[:, 1] = rollouts.dense.divergence(hidden)
    for number, place, states in moved:
        found[number, place] = rollouts.dense.divergence(states)
    return found


def marginal_profile(
    rollouts: Rollouts, levels: IntArray, divergences: FloatArray, *, budget: int, reach: int
) -> IntArray:
    """(B,) zeros of least summed change of the divergence, near a profile.

    Between the measured moves a parabola goes through the three values. The minimum is exact, by
    dynamic programming over the database's levels.

    Args:
        rollouts: Database and weights.
        levels: (B,) the profile that the divergences were measured around.
        divergences: (B, 3), of `marginal_divergences`.
        budget: Least number of zeros.
        reach: Most levels that a block moves.
    """
    grid = rollouts.solved.ratios
    choices, prices = [], []
    for level, weights, row in zip(
        levels.tolist(), rollouts.weights.tolist(), divergences, strict=True
    ):
        near = np.arange(max(level - reach, 0), min(level + reach, len(grid) - 1) + 1)
        choices.append(np.rint(grid[near] * weights).astype(np.int64))
        known = ~np.isnan(row)
        steps = np.array([-STEP, 0, STEP])[known]
        curve = np.polyfit(steps, row[known], int(known.sum()) - 1)
        prices.append(np.polyval(curve, near - level) - row[1])
    most = sum(int(one[-1]) for one in choices)
    rounding = len(choices)  # a weight in each
    return solve_knapsack(choices, prices, budget=min(budget - rounding, most))
