"""A database of pruned blocks at several ratios, from which rollouts put networks together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs import FloatArray, IntArray
from ws_learner.core import load_state_file, save_state_file, track
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import embed
from ws_learner.language.grams import collect_block_grams
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.walk import WalkPlan, pruned_weight, run_windows
from ws_learner.pruning import Pattern

__all__ = ["SolvedBlocks", "ratio_grid", "solve_blocks"]

_SOLVER = "sparsegpt"  # much quicker than the best one, and ranks profiles alike
_REACH, _LEVELS = 0.24, 9
_WINDOWS = 8  # of calibration


def ratio_grid(target: float) -> FloatArray:
    """(K,) ascending ratios around a target at which blocks are pruned."""
    low, high = max(target - _REACH, 0.0), min(target + _REACH, 0.98)
    return np.linspace(low, high, _LEVELS)


@dataclass(frozen=True)
class SolvedBlocks:
    """Files with every layer of a block at every ratio.

    Attributes:
        folder: Where they are.
        ratios: (K,) ascending.
    """

    folder: Path
    ratios: FloatArray

    def path(self, number: int, level: int) -> Path:
        """File of a block at a ratio."""
        return self.folder / f"block_{number:04d}_{level:02d}.pt"

    def levels(self, zeros: IntArray, weights: IntArray) -> IntArray:
        """(B,) numbers of the ratios near a profile's, with nearly its sum of zeros.

        Every block gets the ratio below or above its own. Rounding each to the nearest would let a
        search find profiles that score well because they are rounded to fewer zeros.

        Args:
            zeros: (B,) zeros of each block.
            weights: (B,) weights of each block.
        """
        grid = self.ratios * weights[:, None]
        below = np.clip((grid <= zeros[:, None] + 0.5).sum(axis=1) - 1, 0, len(self.ratios) - 2)
        rows = np.arange(len(zeros))
        low, high = grid[rows, below], grid[rows, below + 1]
        share = (zeros - low) / np.maximum(high - low, 1)
        left = float(zeros.sum() - low.sum())
        found: IntArray = below.astype(np.int64)
        for row in np.argsort(-share, kind="stable"):
            step = float(high[row] - low[row])
            if share[row] > 0 and step <= 2 * left:
                found[row] += 1
                left -= step
        return found

    def zeros(self, levels: IntArray, weights: IntArray) -> IntArray:
        """(B,) zeros of blocks at ratios' numbers."""
        counts: IntArray = np.rint(self.ratios[levels] * weights).astype(np.int64)
        return counts

    def read(self, number: int, level: int) -> dict[str, Tensor]:
        """A block's tensors at a ratio by the folder's names, in 16 bits.

        Raises:
            UserError: The file is damaged.
        """
        return load_state_file(self.path(number, level))


def solve_blocks(
    network: BlockNetwork,
    layers: Sequence[BlockLayer],
    windows: Tensor,
    *,
    pattern: Pattern,
    target: float,
    folder: Path,
) -> SolvedBlocks:
    """Prune every block to every ratio of the grid, by SparseGPT.

    A block's inputs are those behind blocks at the ratio nearest to the target, so that the Gram
    matrices are of a network that is about as damaged as those of the search.

    Args:
        network: The dense network.
        layers: Its layers.
        windows: (N, T) calibration windows, of which the first 8 are used.
        pattern: Of every layer.
        target: Ratio of the whole network.
        folder: For the files; another call goes on where one was stopped.

    Raises:
        UserError: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    solved = SolvedBlocks(folder, ratio_grid(target))
    last = len(solved.ratios) - 1
    if solved.path(len(network) - 1, last).exists():
        return solved
    middle = int(np.abs(solved.ratios - target).argmin())
    hidden, calls = embed(network, windows[:_WINDOWS])
    with track("pruning blocks at several ratios", total=len(network)) as progress:
        for number, call in enumerate(calls):
            if not solved.path(number, last).exists():
                with network.block(number) as block:
                    grams = collect_block_grams(block, hidden, call)
                inside = [one for one in layers if one.block == number and one.name in grams]
                for level, ratio in enumerate(solved.ratios.tolist()):
                    zeros = [pattern.feasible(one.matrix, round(ratio * one.row.weights))
                             for one in inside]  # fmt: skip
                    plan = WalkPlan(layers=inside, zeros=zeros, pattern=pattern, solver=_SOLVER)
                    found = {
                        layer.key: pruned_weight(network, layer, count, grams, plan)
                        for layer, count in zip(inside, zeros, strict=True)
                    }
                    narrow = {key: weight.to(torch.bfloat16) for key, weight in found.items()}
                    save_state_file(solved.path(number, level), narrow)
            with network.block(number, solved.read(number, middle)) as block:
                run_windows(block, hidden, call)
            progress.advance()
    return solved
