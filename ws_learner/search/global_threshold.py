"""Allocations by a global threshold: on magnitudes or LAMP scores.

One layer is looked at at a time, and no scores are kept: the threshold is found by counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs import FloatArray, IntArray
from ws_learner.core import UserError, in_parts, threshold_counts
from ws_learner.search.context import AllocationContext, LayerMagnitudes

__all__ = ["global_magnitude", "lamp", "lamp_scores"]

_PART = 1 << 16


def global_magnitude(context: AllocationContext) -> IntArray:
    """(L,) zeros when the smallest weights of the whole network are pruned.

    Raises:
        UserError: A weight is NaN or infinite.
    """
    magnitudes = context.magnitudes()
    dtype = magnitudes.dtype if isinstance(magnitudes, LayerMagnitudes) else np.float64
    return _threshold(lambda layer: _parts(magnitudes, layer, context), context, dtype)


def lamp(context: AllocationContext) -> IntArray:
    """(L,) zeros when the weights with the smallest LAMP scores are pruned.

    Layer-adaptive magnitude pruning (Lee et al., ICLR 2021, equation 4), see `lamp_scores`.

    Raises:
        UserError: A weight is NaN or infinite.
    """
    magnitudes = context.magnitudes()

    def scores(layer: int) -> Iterator[FloatArray]:
        if isinstance(magnitudes, LayerMagnitudes):
            ranked = magnitudes.compact(layer)
        else:
            ranked = np.array(magnitudes[layer])
        _refuse_not_finite(ranked, layer, context)
        ranked.sort()
        return _lamp_parts(ranked)

    return _threshold(scores, context, np.float64)


def lamp_scores(magnitudes: FloatArray) -> FloatArray:
    """(n,) ascending LAMP scores of a layer's weights.

    A weight's score is its square over the sum of squares of all weights of the layer that are
    not smaller (of equal ones, those that come later in a stable sort). The largest weight of
    every layer scores 1, so that no layer is emptied before all of them are. All-zero layers
    score 0.

    Args:
        magnitudes: (n,) absolute weights, in any order.
    """
    parts = list(_lamp_parts(np.sort(magnitudes)))
    return np.concatenate(parts[::-1]) if parts else np.zeros(0)


def _lamp_parts(ranked: NDArray[Any]) -> Iterator[FloatArray]:
    """LAMP scores of ascending magnitudes, in parts from the largest to the smallest."""
    beyond = 0.0  # sum of squares of the larger ones
    for end in range(len(ranked), 0, -_PART):
        squares = ranked[max(end - _PART, 0) : end].astype(np.float64) ** 2
        rest = np.cumsum(np.concatenate([[beyond], squares[::-1]]))[:0:-1]
        beyond = rest[0]
        yield np.divide(squares, rest, out=np.zeros_like(squares), where=rest > 0)


def _parts(
    magnitudes: Sequence[FloatArray], layer: int, context: AllocationContext
) -> Iterator[NDArray[Any]]:
    if isinstance(magnitudes, LayerMagnitudes):
        parts = magnitudes.parts(layer)
    else:
        parts = in_parts(np.asarray(magnitudes[layer]))
    for part in parts:
        _refuse_not_finite(part, layer, context)
        yield part


def _refuse_not_finite(values: NDArray[Any], layer: int, context: AllocationContext) -> None:
    if len(values) and not np.isfinite(values.max()):  # max() hands a NaN on
        raise UserError(
            f"{context.layers[layer].name}: a weight is NaN or infinite, so that no threshold "
            "ranks the weights; has the training diverged?"
        )


def _threshold(
    scores: Callable[[int], Iterator[NDArray[Any]]],
    context: AllocationContext,
    dtype: type[np.float32] | type[np.float64],
) -> IntArray:
    """(L,) number of scores of each layer among the smallest, within the bounds.

    A layer's first `lower` scores are always pruned, those after `upper` never. Weights at the
    threshold are pruned in forward order until the budget is met.

    Args:
        scores: Reads a layer's scores, in parts, and in any order.
        context: Budget and bounds.
        dtype: Type of the scores.
    """
    if context.budget == int(context.lower.sum()):
        return context.lower.copy()
    below, not_above = threshold_counts(
        [lambda layer=layer: scores(layer) for layer in range(len(context.layers))],  # type: ignore[misc]
        lower=context.lower.tolist(),
        upper=context.upper.tolist(),
        total=context.budget,
        dtype=dtype,
    )
    ties = not_above - below
    before = np.cumsum(ties) - ties
    zeros: IntArray = below + np.clip(context.budget - below.sum() - before, 0, ties)
    return zeros
