"""What a network takes beyond the sum of its layers, fitted to whole networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ws_learner.core import LayerChoice, NumberFormat
from ws_learner.deploy.costs.table import CostTable
from ws_learner.deploy.costs.whole_networks import WholeNetworks

__all__ = ["fitted", "solved"]

_SPARSE_DENSITY = 0.2
_SCALES = (0.7, 1.4)


def fitted(
    table: CostTable, whole: WholeNetworks, choices: Sequence[Sequence[LayerChoice]]
) -> CostTable:
    """The table with its overhead and scales, so that it predicts networks that were measured.

    The dense network is measured and, for `wsr`, one in which each layer has the choice nearest
    to 80 % zeros, in each format. In a network neighbours may become one call. Two networks tell
    the overhead from the scale: time = overhead + scale x sum of the layers.

    Args:
        table: Without them; times of kernels in parts of PyTorch's layer.
        whole: Measures whole networks.
        choices: Of each layer.
    """
    dense = whole.dense()
    times = {
        name: own if own.base is None else own.times(dense.layers_ms[name])
        for name, own in table.times.items()
    }
    table = replace(table, times=times, dense_ms=dense.ms)
    none = [LayerChoice(pattern="unstructured", zeros=0) for _ in table.layers]
    points = {"dense": (_sum(table, none), dense.ms)}
    for dtype in _formats(choices) if table.engine == "wsr" else []:
        chosen = [
            _nearest(own, row.weights, dtype)
            for row, own in zip(table.layers, choices, strict=True)
        ]
        ratio = whole.ratio(chosen, dtype) if chosen != none else None
        if ratio is not None:
            points[dtype] = _sum(table, chosen), dense.ms * ratio
    return solved(table, points)


def solved(table: CostTable, points: dict[str, tuple[float, float]]) -> CostTable:
    """Overhead and scales from (sum of layers, whole network) in milliseconds.

    Args:
        table: Without them.
        points: `dense` and, where they were measured, `fp32` and `int8`.
    """
    sum_dense, dense = points["dense"]
    alone, whole = points.get("fp32", points["dense"])
    scale = 1.0
    if whole < dense and alone < sum_dense:
        scale = _within((dense - whole) / (sum_dense - alone))
    # Where both cannot be met, the sparse one counts.
    overhead = whole - scale * alone
    if overhead < 0:
        scale, overhead = whole / alone, 0.0
    scales = {"fp32": scale, "int8": scale}
    if "int8" in points:
        alone, whole = points["int8"]
        if whole < dense:
            scales["int8"] = _within((whole - overhead) / alone)
    return replace(table, overhead=overhead, scale=scales)


def _sum(table: CostTable, point: Sequence[LayerChoice]) -> float:
    return sum(table.cost(i, choice) for i, choice in enumerate(point))


def _within(scale: float) -> float:
    return min(max(scale, _SCALES[0]), _SCALES[1])


def _formats(choices: Sequence[Sequence[LayerChoice]]) -> list[NumberFormat]:
    used = {choice.dtype for own in choices for choice in own}
    return [kind for kind in ("fp32", "int8") if kind in used]


def _nearest(own: Sequence[LayerChoice], weights: int, dtype: NumberFormat) -> LayerChoice:
    """The choice of a format whose density is nearest to the one that is measured."""
    fitting = [choice for choice in own if choice.dtype == dtype] or list(own)
    if not fitting:
        return LayerChoice(pattern="unstructured", zeros=0, dtype=dtype)
    return min(fitting, key=lambda c: abs(1 - c.zeros / weights - _SPARSE_DENSITY))
