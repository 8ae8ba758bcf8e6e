"""OWL: layers with more outliers among their scores keep more weights."""

from __future__ import annotations

import numpy as np

from envs import FloatArray, IntArray
from ws_learner.search.context import AllocationContext
from ws_learner.search.levels import common_level, zeros_at_offsets

__all__ = ["outlier_share", "owl", "owl_of_shares"]

_OUTLIER = 5.0
_RANGE = 0.08


def owl(context: AllocationContext) -> IntArray:
    """(L,) zeros at ratios that fall with the layer's share of outliers.

    Outlier weighed layerwise sparsity (Yin et al., ICML 2024, section 3.2) with the paper's M = 5
    and lambda = 0.08: the ratio falls linearly from S + lambda where outliers are rarest to
    S - lambda where they are most frequent, S the common ratio that meets the budget. One constant
    is then added to all ratios, within that range, so that the mean over weights is exact. The
    paper compares blocks of a transformer, this function the layers that can be pruned.
    """
    shares = np.array([outlier_share(scores) for scores in context.wanda_scores()])
    return owl_of_shares(shares, context)


def owl_of_shares(shares: FloatArray, context: AllocationContext) -> IntArray:
    """(L,) zeros by `owl` for shares of outliers (L,) that were measured already."""
    open_ = context.lower < context.upper
    least, most = (shares[open_].min(), shares[open_].max()) if open_.any() else (0.0, 0.0)
    ranks = (shares - least) / (most - least) if most > least else np.full(len(shares), 0.5)
    size, flat = context.weights, np.zeros(len(shares))
    mean = common_level(flat, context, lower=context.lower, upper=context.upper)
    return zeros_at_offsets(
        _RANGE * (1 - 2 * ranks),
        context,
        lower=np.clip((mean - _RANGE) * size, context.lower, context.upper),
        upper=np.clip((mean + _RANGE) * size, context.lower, context.upper),
    )


def outlier_share(scores: FloatArray) -> float:
    """Share of a layer's scores (n,) that are above five times their mean, in [0, 1]."""
    return float((scores > _OUTLIER * scores.mean()).mean())
