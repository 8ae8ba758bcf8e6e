"""Limits of the page: what is longer is cut, and the page says how much is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

__all__ = ["Cut", "cut", "thinned"]

Item = TypeVar("Item")
Cut = tuple[list[Item], int]
"""The first items, and the number of those left out."""


def cut(items: Sequence[Item], most: int) -> Cut[Item]:
    """The first `most` items."""
    return list(items[:most]), max(0, len(items) - most)


def thinned(frame: pd.DataFrame, keep: pd.Series[bool], *, most: int) -> pd.DataFrame:
    """At most `most` rows spread evenly, and up to as many again of those to keep.

    Args:
        frame: The rows, in order.
        keep: Which of them matter.
        most: A frame of this length stays whole.
    """
    if len(frame) <= most:
        return frame
    ours = np.flatnonzero(keep.to_numpy(dtype=bool))
    chosen = {*_spread(len(frame), most).tolist(), *ours[_spread(len(ours), most)].tolist()}
    return frame.iloc[sorted(chosen)]


def _spread(count: int, most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Up to `most` places from 0 to `count` - 1, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
