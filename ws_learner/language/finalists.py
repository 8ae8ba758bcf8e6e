"""The best profiles of a search, scored again on more windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from envs import IntArray
from ws_learner.core import say, track
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.rollouts import Rollouts
from ws_learner.language.settings import RewardName
from ws_learner.language.solved_blocks import SolvedBlocks

__all__ = ["choose_finalist"]


def choose_finalist(
    network: BlockNetwork,
    windows: Tensor,
    solved: SolvedBlocks,
    weights: IntArray,
    finalists: Sequence[IntArray],
    *,
    reward: RewardName,
    folder: Path,
) -> IntArray:
    """(B,) numbers of ratios of the finalist with the best mean reward over the windows.

    On few search windows the best of many rollouts is partly luck. The windows are taken one by
    one, so that the dense network's predictions on one are on disk.

    Args:
        network: The dense network.
        windows: (N, T) token numbers, none of them a search window; N = 0 takes the first
            finalist.
        solved: Pruned blocks.
        weights: (B,) weights of each block.
        finalists: (B,) numbers of the blocks' ratios, best first; at least one.
        reward: What is compared.
        folder: For what is measured.

    Raises:
        UserError: The disk is full.
    """
    if not len(windows) or len(finalists) == 1:
        return finalists[0]
    scores = np.zeros(len(finalists))
    with track("scoring the best again", total=len(windows)) as progress:
        for place in range(len(windows)):
            window = windows[place : place + 1]
            rollouts = Rollouts(network, window, solved, weights, reward=reward, folder=folder)
            scores += [rollouts.reward(one) for one in finalists]
            progress.advance()
    best = int(scores.argmax())
    mean = scores / len(windows)
    say(
        f"on {len(windows)} more windows profile {best + 1} of the best {len(finalists)} is ahead: "
        f"reward {mean[best]:.4f}, that of the search's best {mean[0]:.4f}"
    )
    return finalists[best]
