"""What the file of a policy may hold: layers, numbers and arrays that fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs import LayerRow

__all__ = ["check_plain", "check_shapes", "read_layer"]


def read_layer(row: Mapping[str, Any], *, in_weights: bool = True) -> LayerRow:
    """A row of the layer table.

    Args:
        row: Its plain values.
        in_weights: Whether its size is that of its shape, and not a cost.

    Raises:
        ValueError, TypeError, LookupError: It is none.
    """
    made = LayerRow(**{**row, "shape": tuple(row["shape"]), "fan": row["fan"] and (*row["fan"],)})
    texts, counts = (made.name, made.kind, made.role), (made.weights, made.macs, made.least)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a layer's name is no text")
    if not all(type(count) is int and count >= 0 for count in (*counts, *made.shape)):
        raise ValueError("a layer's count is none")
    fits = not in_weights or math.prod(made.shape) == made.weights
    if not (fits and 0 <= made.least <= made.weights):
        raise ValueError("a layer's counts do not agree")
    return made


def check_plain(plain: Mapping[str, Any]) -> None:
    """Check the numbers, texts and settings of a policy.

    Raises:
        ValueError, TypeError: One is of another kind or outside its range.
    """
    low, high = plain["goals"]
    numbers = (low, high, plain["target"], plain["score_power"], *plain["targets"])
    if any(type(number) not in (int, float) or not math.isfinite(number) for number in numbers):
        raise ValueError("a number that is none")
    if not all(0 <= share <= 1 for share in (low, high, plain["target"], *plain["targets"])):
        raise ValueError("a prune ratio outside [0, 1]")
    if not all(isinstance(plain[name], str) for name in ("network", "rewarded", "pattern", "unit")):
        raise ValueError("a text that is none")
    if not isinstance(plain["by_divergence"], bool) or not isinstance(plain["bounds"], dict):
        raise ValueError("a setting that is none")


def check_shapes(arrays: Mapping[str, Any], columns: Sequence[Any], *, layers: int) -> None:
    """Check the arrays of a policy.

    Args:
        arrays: Error curves, own divergences and the places where they are known, by name.
        columns: Points, executed profiles, values and slopes of the scored profiles.
        layers: L, the number of layers.

    Raises:
        ValueError: They are not for so many layers, or not finite.
    """
    pairs = (("curve_ratios", "curves"), ("own_densities", "own"))
    for places, values in pairs:
        grid, table = arrays[places], arrays[values]
        if grid is None and table is None and places != "curve_ratios":
            continue
        if grid.ndim != 1 or table.shape != (layers, len(grid)):
            raise ValueError(f"its arrays are not for {layers} layers")
        if not (np.isfinite(grid).all() and np.isfinite(table).all()):
            raise ValueError(f"{values} are not finite")
    point, executed, value, slopes = columns
    if any(part.shape != (len(value), layers) for part in (point, executed, slopes)):
        raise ValueError(f"its profiles are not for {layers} layers")
