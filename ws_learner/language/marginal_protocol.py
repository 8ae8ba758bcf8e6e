"""Ratios of least marginal divergence: one measurement near the target, then a knapsack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from envs import IntArray
from ws_learner.config import WeightSparseConfig
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.marginal import STEP
from ws_learner.language.opened_rollouts import open_rollouts
from ws_learner.language.ratios import block_rows, ratio_context, spread
from ws_learner.language.searched import exact
from ws_learner.language.start_profiles import marginal_profiles
from ws_learner.language.windows import Windows
from ws_learner.pruning import Pattern
from ws_learner.search import CLOSED_FORM

__all__ = ["marginal_ratios"]


def marginal_ratios(
    network: BlockNetwork,
    layers: Sequence[BlockLayer],
    windows: Windows,
    *,
    pattern: Pattern,
    target: float,
    folder: Path,
) -> IntArray:
    """(L,) zeros of each layer by the marginal divergences of the blocks around uniform ratios.

    Args:
        network: The dense network.
        layers: Its layers.
        windows: Calibration and search are read.
        pattern: Of every layer.
        target: Ratio of the whole network.
        folder: For the database of pruned blocks and what is measured; a search may share it.

    Raises:
        UserError: The disk is full.
    """
    rollouts = open_rollouts(
        network, layers, windows, pattern=pattern, target=target, reward="kl", folder=folder
    )
    config = WeightSparseConfig(ws_prune_ratio=target, ws_prune_ratio_prtl="uniform")
    context = ratio_context(block_rows(network, layers), config, None)
    start = {"uniform": CLOSED_FORM["uniform"](context)}
    found = marginal_profiles(rollouts, start, budget=context.budget, folder=folder)
    return spread(exact(found[f"marginal, {STEP} levels from uniform"], context), layers)
