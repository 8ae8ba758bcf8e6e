"""Measured milliseconds of one layer, and what lies between the measured densities."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ws_learner.core import NumberFormat

__all__ = ["MARGIN", "LayerTimes", "isotonic"]

MARGIN = 1.05
"""How many times faster than PyTorch's layer a kernel must be to replace it."""
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class LayerTimes:
    """Milliseconds of a layer in an engine.

    Attributes:
        base: Of PyTorch's layer, which a kernel must beat to replace it; None for engines that
            ask no such thing.
        dense: Of the fastest way to run it with no zeros, by format.
        sparse: By `PATTERN FORMAT`, (density, milliseconds) pairs of the fastest kernel that
            leaves out zeros, at ascending densities. Empty for engines without such kernels.
    """

    base: float | None
    dense: Mapping[str, float]
    sparse: Mapping[str, Points] = field(default_factory=dict)

    def at(self, density: float, pattern: str, dtype: NumberFormat) -> float:
        """Milliseconds at a density, in [0, 1]; no less where there are more weights.

        A kernel that is not 5 % faster than the layer does not replace it, see `compile_sparse`.
        """
        best = self.dense[dtype]
        points = self.sparse.get(f"{pattern} {dtype}", ())
        if points and density < 1:
            best = min(best, _between(isotonic(points), density))
        return best if self.base is None or best * MARGIN <= self.base else self.base

    def times(self, base_ms: float) -> LayerTimes:
        """The same where PyTorch's layer takes `base_ms`, if these are parts of it."""
        return LayerTimes(
            base=base_ms,
            dense={kind: base_ms * part for kind, part in self.dense.items()},
            sparse={
                name: tuple((density, base_ms * part) for density, part in own)
                for name, own in self.sparse.items()
            },
        )

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        sparse = {name: [list(pair) for pair in own] for name, own in self.sparse.items()}
        return {"base": self.base, "dense": dict(self.dense), "sparse": sparse}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> LayerTimes:
        """The counterpart of `plain`.

        Raises:
            KeyError, TypeError, ValueError: Something is missing or no number.
        """
        sparse = {
            str(name): tuple((float(d), float(ms)) for d, ms in own)
            for name, own in plain["sparse"].items()
        }
        dense = {str(name): float(ms) for name, ms in plain["dense"].items()}
        base = None if plain["base"] is None else float(plain["base"])
        return cls(base=base, dense=dense, sparse=sparse)


def isotonic(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The nearest times, in least squares, that do not fall as density grows.

    Pools adjacent violators (Ayer et al. 1955).
    """
    blocks: list[tuple[float, int]] = []
    for _, value in points:
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
    values = [value for value, count in blocks for _ in range(count)]
    return [(density, value) for (density, _), value in zip(points, values, strict=True)]


def _between(points: Sequence[tuple[float, float]], density: float) -> float:
    """Linear between two points and beyond the last, level before the first."""
    place = bisect_left([d for d, _ in points], density)
    if place == 0 or len(points) == 1:
        return points[0][1]
    (d0, t0), (d1, t1) = points[min(place, len(points) - 1) - 1 :][:2]
    return t0 + (t1 - t0) * (density - d0) / (d1 - d0)
