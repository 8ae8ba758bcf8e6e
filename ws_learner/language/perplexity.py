"""Perplexity of a network on windows, block by block, and paired differences of two networks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from envs import FloatArray
from ws_learner.core import track
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import embed, logits_of
from ws_learner.language.walk import PrunedBlocks, changed_tensors, run_windows

__all__ = ["PairedDifference", "paired_difference", "perplexity", "window_losses"]


def window_losses(
    network: BlockNetwork, windows: Tensor, *, what: str, changed: PrunedBlocks | None = None
) -> FloatArray:
    """(N,) mean negative log likelihood of a window's tokens after its first, in nats.

    Args:
        network: The network.
        windows: (N, T) token numbers.
        what: Name of the network, for the progress.
        changed: Tensors of the blocks that take the place of the folder's.
    """
    hidden, calls = embed(network, windows)
    with track(f"perplexity of {what}", total=len(network)) as progress:
        for number, call in enumerate(calls):
            with network.block(number, changed_tensors(changed, number)) as block:
                run_windows(block, hidden, call)
            progress.advance()
    return losses_behind(network, windows, hidden)


def losses_behind(network: BlockNetwork, windows: Tensor, hidden: Tensor) -> FloatArray:
    """The same from the last block's outputs (N, T, width)."""
    found = [
        float(torch.nn.functional.cross_entropy(logits[:-1].float(), window[1:]))
        for window, logits in zip(windows, logits_of(network, windows, hidden), strict=True)
    ]
    return np.array(found)


def perplexity(losses: FloatArray) -> float:
    """The exponential of the mean loss; infinite where that is too large for a number."""
    mean = float(losses.mean())
    return math.exp(mean) if mean < 700 else math.inf


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of two networks' losses over the same windows.

    Attributes:
        mean: In nats; above 0 if the first network is worse.
        half: Half of the 95 % interval by Student's t; infinite for a single window.
    """

    mean: float
    half: float

    def __str__(self) -> str:
        """Such as `+0.421 ± 0.053 nats`."""
        return f"{self.mean:+.3f} ± {self.half:.3f} nats"


def paired_difference(first: FloatArray, second: FloatArray) -> PairedDifference:
    """The losses (N,) of one network minus those of another on the same windows."""
    differences = first - second
    count = len(differences)
    if count < 2:
        return PairedDifference(float(differences.mean()), math.inf)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    return PairedDifference(float(differences.mean()), error * float(stats.t.ppf(0.975, count - 1)))
