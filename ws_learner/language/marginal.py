"""Marginal divergences: each block moved alone, while all others are pruned to the target.

Damages of pruned blocks do not add up at high sparsity: a block that is harmless to lose alone may
be needed once the others are pruned. Here the other blocks are pruned already, so that the sum
of small changes predicts the network near that profile.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch

from envs import FloatArray, IntArray
from ws_learner.core import load_state_file, save_state_file, track
from ws_learner.language.rollouts import Rollouts
from ws_learner.search import solve_knapsack

__all__ = ["STEP", "marginal_divergences", "marginal_profile"]

STEP = 2
"""Levels of the database that a block is moved down and up; about a tenth in the ratio."""


def marginal_divergences(rollouts: Rollouts, levels: IntArray, *, folder: Path) -> FloatArray:
    """(B, 3) KL divergence in nats, with one block moved down by `STEP` levels, as is, and up.

    All others are at `levels`. Where a move leaves the database, NaN. Each block is written when it
    is finished, and another call goes on from there.

    Args:
        rollouts: Database and windows.
        levels: (B,) numbers of the blocks' ratios.
        folder: What was measured is kept there, also for other calls.

    Raises:
        UserError: The disk is full.
    """
    name = hashlib.sha256(" ".join(map(str, levels.tolist())).encode()).hexdigest()[:12]
    kept = folder / f"marginal_{rollouts.windows_digest}_{name}.pt"
    rows = load_state_file(kept)["rows"].tolist() if kept.exists() else []
    if len(rows) < len(levels):
        _measure(rollouts, levels, rows, kept)
    found: FloatArray = np.array(rows)
    return found


def _measure(rollouts: Rollouts, levels: IntArray, rows: list[list[float]], kept: Path) -> None:
    """Add the rows that are not there."""
    last = len(rollouts.solved.ratios) - 1
    still = rows[0][1] if rows else rollouts.measure(levels).divergence
    hidden = rollouts.embedded.clone()
    with track("measuring blocks near a profile", total=len(levels), done=len(rows)) as progress:
        for number, level in enumerate(levels.tolist()):
            if number >= len(rows):
                moves = {0: level - STEP, 2: level + STEP}
                row = [math.nan, still, math.nan]
                states = {at: hidden.clone() for at, to in moves.items() if 0 <= to <= last}
                for at, state in states.items():
                    rollouts.run(number, moves[at], state)
                for later in range(number + 1, len(levels)):
                    rollouts.run(later, int(levels[later]), list(states.values()))
                for at, state in states.items():
                    row[at] = rollouts.dense.divergence(state)
                rows.append(row)
                save_state_file(kept, {"rows": torch.tensor(rows, dtype=torch.float64)})
                progress.advance()
            rollouts.run(number, level, hidden)


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
