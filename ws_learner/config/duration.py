"""Durations as they are written in settings. Free of torch."""

from __future__ import annotations

import math
import re

__all__ = ["parse_duration"]

_FORM = re.compile(r"(\d+\.?\d*|\.\d+)\s*([smh]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(duration: str | float) -> float:
    """Return the seconds of a duration: `90s`, `10m`, `1.5h`, or `600` and 600 for seconds.

    Raises:
        ValueError: It is no duration above 0.
    """
    if isinstance(duration, str):
        found = _FORM.fullmatch(duration.strip().lower())
        duration = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < duration < math.inf:
        raise ValueError("must be a time above 0, such as 90s, 10m, 1.5h, or 600 for seconds")
    return float(duration)
