"""Movement scores: threshold, cap, initial threshold, and regularisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ws_learner.pruning.patterns.score_grid import ScoreGrid

__all__ = [
    "MOST_PRUNED",
    "importance_loss",
    "initial_threshold",
    "kept",
    "kept_of_all",
    "price",
    "quantile",
]

MOST_PRUNED = 0.98
"""Percentile of a tensor's scores above which the threshold does not go: about 2 % survive."""
FIRST_PRUNED = 0.001
"""Share of the weights that an adaptive threshold prunes when warm-up begins."""
LAYER_FACTOR = 0.5


def kept(
    scores: Tensor, threshold: float, *, repeats: int = 1, most: float = MOST_PRUNED
) -> Tensor:
    """Bool, of the scores' shape: scores strictly above the smaller of threshold and percentile.

    The percentile is that of the scores repeated as often as weights share them. It is looked for
    only where the threshold leaves too few: counting is much cheaper than selecting, and has no
    limit on the size, as `torch.quantile` does.

    Args:
        scores: Of one weight or bias.
        threshold: Of the schedule; minus infinity keeps all.
        repeats: Weights that share a score.
        most: The percentile, as a share in [0, 1]; 1 caps at the largest score.
    """
    return kept_of_all([(scores, repeats)], threshold, most=most)[0]


def kept_of_all(
    parts: Sequence[tuple[Tensor, int]], threshold: float, *, most: float = MOST_PRUNED
) -> list[Tensor]:
    """`kept` for many (scores, repeats) on one device, which is waited for once."""
    masks = [scores > threshold for scores, _ in parts]
    counts = torch.stack([torch.count_nonzero(keep) for keep in masks]).tolist()
    for place, ((scores, repeats), count) in enumerate(zip(parts, counts, strict=True)):
        weights = scores.numel() * repeats
        if count * repeats >= weights - math.floor(most * (weights - 1)):
            continue  # the sorted score at that rank is above the threshold, so is the percentile
        cap = quantile(scores, most, repeats=repeats)
        if cap < threshold:
            masks[place] = scores > cap
    return masks


def quantile(scores: Tensor, share: float, *, repeats: int = 1) -> float:
    """The linearly interpolated quantile of scores that count `repeats` times each."""
    place = share * (scores.numel() * repeats - 1)
    low = math.floor(place)
    ranks = sorted({low // repeats, min(low + 1, scores.numel() * repeats - 1) // repeats})
    flat = scores.detach().reshape(-1)
    if flat.device.type == "cpu":
        found = np.partition(flat.float().numpy(), ranks)[ranks].astype(np.float64)
    else:
        top = torch.topk(flat, flat.numel() - ranks[0], sorted=True).values.flip(0)
        found = top[[rank - ranks[0] for rank in ranks]].double().cpu().numpy()
    return float(found[0] + (place - low) * (found[-1] - found[0]))


def initial_threshold(parts: Sequence[tuple[Tensor, int]], share: float = FIRST_PRUNED) -> float:
    """The k-th smallest of all scores, k = min(n, floor(share n) + 1) of the n weights.

    Args:
        parts: (scores, weights that share each of them) of every weight and bias.
        share: Of the weights that scores at or below the threshold have, about.
    """
    count = sum(scores.numel() * repeats for scores, repeats in parts)
    rank = min(count, int(count * share) + 1)
    values, weights = [], []
    for scores, repeats in parts:
        few = min(scores.numel(), -(-rank // repeats))
        least = torch.topk(scores.detach().reshape(-1).cpu(), few, largest=False).values
        values.append(least)
        weights.append(torch.full((few,), repeats))
    smallest, order = torch.sort(torch.cat(values))
    reached = torch.cumsum(torch.cat(weights)[order], 0) >= rank
    return float(smallest[int(reached.int().argmax())])


def price(grid: ScoreGrid, *, layers: int, weights: int, normalize: bool) -> float:
    """Factor of sigma'(S) in the loss's gradient by a score S, for a penalty factor of 1.

    As published, a layer costs 0.5 x (weights that share a score) x (mean of sigma(S)), and the
    layers are averaged: the price of a weight depends on the grid and on the layer's size.
    Normalised, the loss is the mean of sigma(S) over all weights, the same price for each.

    Args:
        grid: Of the weight or bias.
        layers: Number of layers that have scores.
        weights: Weights and biases of all these layers.
        normalize: Which of the two.
    """
    if normalize:
        return grid.size / weights
    return LAYER_FACTOR * grid.size / grid.scores / layers


def importance_loss(
    parts: Sequence[tuple[Tensor, ScoreGrid]], *, layers: int, weights: int, normalize: bool = False
) -> Tensor:
    """The regularisation loss for a factor of 1, a scalar; see `price`."""
    total = torch.zeros(())
    for scores, grid in parts:
        one = price(grid, layers=layers, weights=weights, normalize=normalize)
        total = total.to(scores.device) + one * torch.sigmoid(scores).sum()
    return total
