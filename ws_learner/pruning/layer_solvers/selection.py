"""Which weights go: the smallest scores of a layer, or of each of its rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ws_learner.pruning.layer_solvers.layer_problem import Compare
from ws_learner.pruning.patterns.pattern import BlockPattern, Pattern, Unstructured

__all__ = ["select"]


def select(score: Tensor, zeros: int, *, pattern: Pattern, compare: Compare) -> Tensor:
    """Prune exactly `zeros` weights, those of the units with the smallest mean scores.

    Args:
        score: (O, I), floating; no NaN.
        zeros: A number of zeros that whole units make.
        pattern: The units.
        compare: `row` gives every row of weights or blocks the same number of zeros, as nearly as
            whole units do. It applies to single weights, and to blocks that divide the layer;
            other patterns compare over the layer. N:M compares within its groups in any case.

    Returns:
        (O, I) bool, True = kept. Of equal scores the first go first.
    """
    shape = (int(score.shape[0]), int(score.shape[1]))
    if compare == "layer" or not _has_rows(pattern, shape):
        return pattern.mask(score, zeros)
    high, wide = (pattern.outputs, pattern.inputs) if isinstance(pattern, BlockPattern) else (1, 1)
    units = pattern.pooled(score).reshape(shape[0] // high, shape[1] // wide)
    kept = _by_row(units, zeros // (high * wide))
    return pattern.expand(kept.reshape(-1), score)


def _has_rows(pattern: Pattern, shape: tuple[int, int]) -> bool:
    return isinstance(pattern, Unstructured) or (
        isinstance(pattern, BlockPattern) and pattern.divides(shape)
    )


def _by_row(scores: Tensor, count: int) -> Tensor:
    """Prune `count` entries, in every row as many as in the others or one more."""
    rows, columns = scores.shape
    ends = torch.arange(rows + 1, device=scores.device) * count // rows
    gone = torch.arange(columns, device=scores.device) < ends.diff()[:, None]
    order = scores.argsort(dim=1, stable=True)
    return ~torch.zeros_like(gone).scatter_(1, order, gone)
