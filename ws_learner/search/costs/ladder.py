"""Ladders: each layer's choices of pattern, zeros and number format, from dense to cheapest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from envs import FloatArray, IntArray, LayerRow
from ws_learner.core import LayerChoice, LayerCosts

__all__ = ["Ladders", "build_ladders"]

_TICKS = 1 << 24  # of a dense network where the unit has no whole numbers
_KEPT = np.concatenate([[0.0], np.geomspace(0.01, 0.98, 40)])
_SMALL = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Ladders:
    """The choices of L layers that are not beaten in both cost and quality.

    Attributes:
        layers: The layer table.
        rungs: For each layer its choices, the dense one first, each cheaper than the one before.
        savings: For each layer the whole ticks that each choice saves.
        errors: For each layer the relative squared error of each choice.
        own: For each layer the own divergence of each choice; None if unknown.
        tick: Cost of a tick.
        free: Ticks by which the sizes exceed the dense network's cost.
    """

    layers: tuple[LayerRow, ...]
    rungs: tuple[tuple[LayerChoice, ...], ...]
    rows: tuple[LayerRow, ...]
    savings: tuple[IntArray, ...]
    errors: tuple[FloatArray, ...]
    own: tuple[FloatArray, ...] | None
    tick: float
    free: int

    @property
    def sizes(self) -> IntArray:
        """(L,) dense cost of each layer in ticks."""
        return np.array([row.weights for row in self.rows], dtype=np.int64)

    @property
    def most(self) -> IntArray:
        """(L,) most ticks that each layer can save."""
        return np.array([saved[-1] for saved in self.savings], dtype=np.int64)

    @property
    def quality(self) -> tuple[FloatArray, ...]:
        """For each layer what each choice costs in quality: own divergence, or else error."""
        return self.errors if self.own is None else self.own

    def nearest(self, ticks: IntArray) -> IntArray:
        """(L,) places of the rungs nearest to (L,) ticks."""
        pairs = zip(self.savings, ticks, strict=True)
        return np.array([int(np.abs(saved - tick).argmin()) for saved, tick in pairs])

    def at_least(self, ticks: IntArray) -> IntArray:
        """(L,) places of the dearest rungs that save at least (L,) ticks."""
        pairs = zip(self.savings, ticks, strict=True)
        last = (len(saved) - 1 for saved in self.savings)
        found = (int(np.searchsorted(saved, tick)) for saved, tick in pairs)
        return np.array([min(place, end) for place, end in zip(found, last, strict=True)])

    def choices(self, places: IntArray) -> tuple[LayerChoice, ...]:
        """The choices at (L,) places."""
        return tuple(own[place] for own, place in zip(self.rungs, places, strict=True))

    @cached_property
    def curves(self) -> tuple[FloatArray, FloatArray]:
        """(K,) shares of a layer's cost that are saved, all rungs among them, and (L, K) errors."""
        shares = [saved / size for saved, size in zip(self.savings, self.sizes, strict=True)]
        every = np.unique(np.concatenate(shares))
        return every, np.array(
            [np.interp(every, own, self.errors[i]) for i, own in enumerate(shares)]
        )

    @cached_property
    def own_curves(self) -> tuple[FloatArray, FloatArray] | None:
        """(J,) shares of a layer's cost that are kept and (L, J) own divergences."""
        if self.own is None:
            return None
        found = []
        for saved, size, values in zip(self.savings, self.sizes, self.own, strict=True):
            kept = np.log(np.maximum(1 - saved / size, 1e-6))[::-1]
            logs = np.log(np.maximum(np.maximum.accumulate(values), _SMALL))[::-1]
            found.append(np.exp(np.interp(np.log(np.maximum(_KEPT, 1e-6)), kept, logs)))
        return _KEPT, np.array(found)


def build_ladders(
    layers: Sequence[LayerRow],
    choices: Sequence[Sequence[LayerChoice]],
    *,
    costs: LayerCosts,
    errors: Sequence[FloatArray],
    own: Sequence[FloatArray] | None,
    least: IntArray,
    most: IntArray,
    patterns: Collection[str] = (),
) -> Ladders:
    """Sort the choices of each layer by cost and keep those that none beats.

    Args:
        layers: The L layers.
        choices: The choices of each layer, the dense one first.
        costs: Cost of each.
        errors: Relative squared error of each.
        own: Own divergence of each; None if unknown.
        least: (L,) least zeros of each layer; a layer that must have some has no dense choice.
        most: (L,) most zeros of each layer.
        patterns: Those that may have zeros; empty: any.
    """
    quality = errors if own is None else own
    prices = [
        np.array([costs.cost(layer, choice) for choice in listed])
        for layer, listed in enumerate(choices)
    ]
    total = sum(float(price[0]) for price in prices)
    whole = costs.unit in ("params", "macs", "bytes")
    tick = 1.0 if whole else max(total, 1e-12) / _TICKS
    kept = [
        _unbeaten(row, listed, price, loss, some=bool(low), most=int(high), patterns=patterns)
        for row, listed, price, loss, low, high in zip(
            layers, choices, prices, quality, least, most, strict=True
        )
    ]
    savings, places = [], []
    for chosen, price in zip(kept, prices, strict=True):
        saved = np.maximum(price[0] - price[chosen], 0.0)
        ticks = np.floor(saved / tick + 1e-6).astype(np.int64)
        first = np.unique(ticks, return_index=True)[1]
        savings.append(ticks[first])
        places.append(chosen[first])
    dense = [float(price[0]) / tick for price in prices]
    rows = tuple(
        replace(
            row,
            weights=max(round(size), 1),
            exempt=row.exempt or not saved[-1],
            most=None,
            least=0,
        )
        for row, size, saved in zip(layers, dense, savings, strict=True)
    )
    return Ladders(
        layers=tuple(layers),
        rungs=tuple(
            tuple(listed[i] for i in own_places)
            for listed, own_places in zip(choices, places, strict=True)
        ),
        rows=rows,
        savings=tuple(savings),
        errors=tuple(np.asarray(e)[p] for e, p in zip(errors, places, strict=True)),
        own=None if own is None else tuple(o[p] for o, p in zip(own, places, strict=True)),
        tick=tick,
        free=sum(1 for size, row in zip(dense, rows, strict=True) if round(size) < row.weights),
    )


def _unbeaten(
    row: LayerRow,
    listed: Sequence[LayerChoice],
    prices: FloatArray,
    losses: FloatArray,
    *,
    some: bool,
    most: int,
    patterns: Collection[str],
) -> IntArray:
    """Places of the choices that no cheaper or equally cheap one beats, the dense one first.

    A layer that must have some zeros has no dense choice.
    """
    found, best = [], np.inf
    order = sorted(range(1, len(listed)), key=lambda place: (prices[place], losses[place]))
    for place in order:
        choice = listed[place]
        named = not patterns or not choice.zeros or choice.pattern in patterns
        allowed = named and not row.exempt and choice.zeros <= most
        if allowed and (some or prices[place] < prices[0]) and losses[place] < best:
            found.append(place)
            best = float(losses[place])
    dense = [] if some and found else [0]
    return np.array([*dense, *reversed(found)], dtype=np.int64)
