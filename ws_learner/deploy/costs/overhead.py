"""What a network takes beyond the sum of its layers, fitted to whole networks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ws_learner.core import LayerChoice, NumberFormat, check_choice
from ws_learner.deploy.costs.table import CostTable
from ws_learner.deploy.costs.whole_networks import WholeNetworks

__all__ = ["Point", "fitted", "solved"]

_DENSITY = 0.1
_FORMATS: tuple[NumberFormat, ...] = ("fp32", "int8")
_PRIOR = 0.1
_ALIKE = 0.02
_SCALES = (0.4, 2.5)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A whole network that was measured.

    Attributes:
        dtype: Of its layers.
        layers_ms: Sum of its layers by themselves.
        whole_ms: The network.
    """

    dtype: NumberFormat
    layers_ms: float
    whole_ms: float

    def __post_init__(self) -> None:
        check_choice(self.dtype, NumberFormat, name="dtype")


def fitted(
    table: CostTable, whole: WholeNetworks, choices: Sequence[Sequence[LayerChoice]]
) -> CostTable:
    """The table with its overhead and scales, so that it predicts networks that were measured.

    The dense network is measured and, for `wsr`, in each format one in which every layer has the
    choice nearest to 90 % zeros, and one of random choices, as a search finds them. In a network
    neighbours may become one call, if all of them have kernels.

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
    points = [Point(dtype="fp32", layers_ms=_sum(table, none), whole_ms=dense.ms)]
    for dtype, chosen in _networks(table, choices) if table.engine == "wsr" else []:
        ratio = whole.ratio(chosen, dtype) if chosen != none else None
        if ratio is not None:
            alone = _sum(table, chosen)
            points.append(Point(dtype=dtype, layers_ms=alone, whole_ms=dense.ms * ratio))
    return solved(table, points)


def solved(table: CostTable, points: Sequence[Point]) -> CostTable:
    """Overhead, at least 0, and scales of least relative squared error.

    A scale that the points do not tell stays near 1, or near that of fp32.

    Args:
        table: Without them.
        points: Networks; time = overhead + scale x sum of the layers.
    """
    from scipy.optimize import lsq_linear

    rows = [[0.0, _PRIOR, 0.0], [0.0, -_PRIOR, _PRIOR]]
    wanted = [_PRIOR, 0.0]
    for point in points:
        share = point.layers_ms / point.whole_ms
        rows.append([1 / point.whole_ms, *(share * (kind == point.dtype) for kind in _FORMATS)])
        wanted.append(1.0)
    least, most = [0.0, *[_SCALES[0]] * 2], [np.inf, *[_SCALES[1]] * 2]
    overhead, *scales = lsq_linear(np.array(rows), np.array(wanted), bounds=(least, most)).x
    found: dict[str, float] = {k: float(own) for k, own in zip(_FORMATS, scales, strict=True)}
    return replace(table, overhead=float(overhead), scale=found)


def _sum(table: CostTable, point: Sequence[LayerChoice]) -> float:
    return sum(table.cost(i, choice) for i, choice in enumerate(point))


def _networks(
    table: CostTable, choices: Sequence[Sequence[LayerChoice]]
) -> list[tuple[NumberFormat, list[LayerChoice]]]:
    """For each format one choice for every layer: all sparse, and random ones."""
    used = {choice.dtype for own in choices for choice in own}
    weights = [row.weights for row in table.layers]
    found = []
    for dtype in (kind for kind in _FORMATS if kind in used):
        near = [_near(own, size, dtype) for own, size in zip(choices, weights, strict=True)]
        # Neighbours have different patterns.
        found.append((dtype, [own[place % len(own)] for place, own in enumerate(near)]))
        draw = random.Random(0)
        found.append((dtype, [draw.choice(_fitting(own, dtype)) for own in choices]))
    return found


def _fitting(own: Sequence[LayerChoice], dtype: NumberFormat) -> list[LayerChoice]:
    """The choices of a format that have zeros."""
    found = [choice for choice in own if choice.dtype == dtype and choice.zeros]
    return found or [LayerChoice(pattern="unstructured", zeros=0, dtype=dtype)]


def _near(own: Sequence[LayerChoice], weights: int, dtype: NumberFormat) -> list[LayerChoice]:
    """The choices of a format that are nearest to 90 % zeros."""
    fitting = _fitting(own, dtype)
    far = [abs(1 - choice.zeros / weights - _DENSITY) for choice in fitting]
    most = min(far) + _ALIKE
    return [choice for choice, distance in zip(fitting, far, strict=True) if distance <= most]
