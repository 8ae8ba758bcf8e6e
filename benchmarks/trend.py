"""Whether a series of readings is level: its slope, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Trend", "trend"]


class Trend(NamedTuple):
    """Least-squares slope of y over x.

    Attributes:
        slope: In units of y per unit of x.
        low: Lower end of its 95 % interval.
        high: Upper end.
        level: Mean of y.
    """

    slope: float
    low: float
    high: float
    level: float

    @property
    def flat(self) -> bool:
        """Whether the interval has 0 in it."""
        return self.low <= 0 <= self.high


def trend(x: Sequence[float], y: Sequence[float]) -> Trend:
    """Fit a line.

    The interval takes the residuals as independent. Memory is not: it moves in steps, so that
    the true interval is wider.

    Raises:
        ValueError: Fewer than three readings.
    """
    from scipy import stats

    if len(x) < 3:
        raise ValueError(f"{len(x)} readings: a slope with an interval needs 3")
    level = float(np.mean(y))
    if np.ptp(y) == 0:
        return Trend(0.0, 0.0, 0.0, level)
    found = stats.linregress(x, y)
    reach = float(stats.t.ppf(0.975, len(x) - 2)) * float(found.stderr)
    slope = float(found.slope)
    return Trend(slope, slope - reach, slope + reach, level)
