"""Cost axes: how much a layer's zeros save, for one pattern and number format.

Agents, environment and protocols know a budget of zeros only. They are given a table whose layers
have their dense cost as size and what they save as zeros, in whole ticks. So every budget is met
exactly in ticks, and a density is the share of a layer's cost that is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from envs import FloatArray, IntArray, LayerRow, OwnCurves, error_at
from ws_learner.core import LayerChoice, LayerCosts, NumberFormat
from ws_learner.pruning import PatternPlan
from ws_learner.search.costs.counted import CountedCosts

__all__ = ["CostAxes", "cost_axes"]

_TICKS = 1 << 24  # of a dense network where the unit has no whole numbers
_DENSITIES = (1.0, *np.geomspace(0.95, 0.003, 40).tolist(), 0.0)
_KEPT = np.concatenate([[0.0], np.geomspace(0.01, 0.97, 28)])
_STEP = 1e-6  # of a tick: tells apart counts that cost the same


@dataclass(frozen=True, kw_only=True, eq=False)
class CostAxes:
    """What the zeros of L layers save.

    Attributes:
        layers: The layer table.
        rows: The table in ticks: `weights` is the dense cost; layers that save nothing are exempt.
        tick: Cost of a tick, in the unit of the costs.
        dense: Dense cost of each layer in ticks, not whole.
        linear: Whether every weight of a layer costs the same.
        counts: For each layer, ascending counts of zeros.
        savings: For each layer, ascending ticks saved there.
    """

    layers: tuple[LayerRow, ...]
    rows: tuple[LayerRow, ...]
    tick: float
    linear: bool
    dense: tuple[float, ...]
    counts: tuple[FloatArray, ...]
    savings: tuple[FloatArray, ...]

    @property
    def sizes(self) -> IntArray:
        """(L,) dense cost of each layer in ticks."""
        return np.array([row.weights for row in self.rows], dtype=np.int64)

    @property
    def free(self) -> int:
        """Ticks of layers that cost nothing, which count as one each."""
        return sum(
            1
            for saved, row in zip(self.dense, self.rows, strict=True)
            if round(saved) < row.weights
        )

    def saved(self, zeros: IntArray | FloatArray) -> FloatArray:
        """(L,) ticks that (L,) zeros save, not necessarily whole."""
        axes = zip(zeros, self.counts, self.savings, strict=True)
        return np.array([np.interp(zero, counts, saved) for zero, counts, saved in axes])

    def zeros(self, ticks: IntArray | FloatArray) -> FloatArray:
        """(L,) least zeros, not necessarily whole, that save (L,) ticks."""
        axes = zip(ticks, self.savings, self.counts, strict=True)
        return np.array([np.interp(tick, saved, counts) for tick, saved, counts in axes])

    def whole(self, ticks: IntArray | FloatArray) -> IntArray:
        """(L,) nearest whole zeros."""
        found: IntArray = np.rint(self.zeros(ticks)).astype(np.int64)
        return found

    def restate_curves(self, ratios: FloatArray, curves: FloatArray) -> tuple[FloatArray, ...]:
        """(K,) ratios and (L, K) errors by the share of a layer's cost that is saved."""
        if self.linear:
            return ratios, curves
        shares = np.unique(np.concatenate([ratios, 1 - _KEPT[1:]]))
        found = np.zeros((len(self.rows), len(shares)))
        for layer, row in enumerate(self.layers):
            counts = np.interp(shares * self.rows[layer].weights, *self._axis(layer))
            own = curves[layer]
            found[layer] = error_at(counts, weights=row.weights, ratios=ratios, errors=own)
        return shares, found

    def restate_own(self, densities: FloatArray, own: FloatArray) -> tuple[FloatArray, ...]:
        """(J,) shares kept and (L, J) own divergences by the share of a layer's cost kept."""
        if self.linear:
            return densities, own
        weights = np.array([row.weights for row in self.layers], dtype=np.int64)
        curves = OwnCurves(densities, own, weights)
        points = np.zeros((len(_KEPT), len(weights)))
        for layer, row in enumerate(self.rows):
            counts = np.interp((1 - _KEPT) * row.weights, *self._axis(layer))
            points[:, layer] = np.log(np.maximum(weights[layer] - counts, 0.5) / weights[layer])
        values, _ = curves(points)
        return _KEPT, values.T

    def _axis(self, layer: int) -> tuple[FloatArray, FloatArray]:
        return self.savings[layer], self.counts[layer]


def cost_axes(
    layers: Sequence[LayerRow],
    costs: LayerCosts,
    *,
    plan: PatternPlan,
    pattern: str,
    dtype: NumberFormat,
) -> CostAxes:
    """The axes of a network for one pattern and number format.

    Args:
        layers: The layer table.
        costs: Cost of each choice.
        plan: Whole units of the pattern.
        pattern: Its spelling.
        dtype: The number format.
    """
    linear = isinstance(costs, CountedCosts)
    counts, kept = [], []
    for layer, row in enumerate(layers):
        own = _counts(row, plan, ends=linear)
        prices = [costs.cost(layer, _choice(pattern, int(zero), dtype)) for zero in own]
        counts.append(own.astype(np.float64))
        kept.append(np.minimum.accumulate(np.array(prices)))
    whole = linear or costs.unit == "bytes"
    total = sum(float(prices[0]) for prices in kept)
    tick = 1.0 if whole else max(total, 1e-12) / _TICKS
    savings = [(prices[0] - prices) / tick for prices in kept]
    savings = [saved + _STEP * np.arange(len(saved)) * (not linear) for saved in savings]
    dense = [float(prices[0]) / tick for prices in kept]
    rows = tuple(
        _restated(row, max(round(size), 1), saved)
        for row, size, saved in zip(layers, dense, savings, strict=True)
    )
    return CostAxes(
        layers=tuple(layers),
        rows=rows,
        tick=tick,
        linear=linear,
        dense=tuple(dense),
        counts=tuple(counts),
        savings=tuple(savings),
    )


def _choice(pattern: str, zeros: int, dtype: NumberFormat) -> LayerChoice:
    return LayerChoice(pattern=pattern, zeros=zeros, dtype=dtype)


def _counts(row: LayerRow, plan: PatternPlan, *, ends: bool) -> IntArray:
    """Ascending counts of zeros that the layer's pattern can make."""
    if row.exempt or row.name not in plan.patterns:
        return np.array([0], dtype=np.int64)
    most = plan.most(row.name)
    if ends:
        return np.array([0, row.weights], dtype=np.int64)
    wanted = {min(round((1 - density) * row.weights), most) for density in _DENSITIES}
    pattern, shape = plan.patterns[row.name], plan.shapes[row.name]
    return np.array(sorted({pattern.feasible(shape, count) for count in wanted} | {0}), np.int64)


def _restated(row: LayerRow, size: int, saved: FloatArray) -> LayerRow:
    """A row in ticks."""
    most = int(saved[-1])
    return replace(row, weights=size, exempt=row.exempt or most < 1, most=None, least=0)
