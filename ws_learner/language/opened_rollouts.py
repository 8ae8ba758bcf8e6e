"""Rollouts with their database of pruned blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.rollouts import Rollouts
from ws_learner.language.settings import RewardName
from ws_learner.language.solved_blocks import solve_blocks
from ws_learner.language.windows import Windows
from ws_learner.pruning import Pattern

__all__ = ["open_rollouts"]


def open_rollouts(
    network: BlockNetwork,
    layers: Sequence[BlockLayer],
    windows: Windows,
    *,
    pattern: Pattern,
    target: float,
    reward: RewardName,
    folder: Path,
) -> Rollouts:
    """Build the database, or what an earlier call has not, and run the dense network.

    Args:
        network: The dense network.
        layers: Its layers.
        windows: Calibration and search are read.
        pattern: Of every layer.
        target: Ratio of the whole network.
        reward: What a profile is judged by.
        folder: For the database.

    Raises:
        UserError: The disk is full.
    """
    solved = solve_blocks(
        network, layers, windows.calibration, pattern=pattern, target=target, folder=folder
    )
    weights = np.zeros(len(network), dtype=np.int64)
    for layer in layers:
        weights[layer.block] += layer.row.weights
    return Rollouts(network, windows.search, solved, weights, reward=reward, folder=folder)
