"""A piece of work over time: how much is done, how long it took, how long it will take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Work", "duration_text"]


def duration_text(seconds: float) -> str:
    """A duration in the two largest units that fit.

    Example:
        >>> duration_text(8 * 3600 + 25 * 60 + 10), duration_text(90), duration_text(7.4)
        ('8 h 25 min', '1 min 30 s', '7 s')
        >>> duration_text(100 * 3600)
        '4 d 4 h'
    """
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(whole / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(whole / 3600)
    return f"{hours // 24} d {hours % 24} h"


@dataclass(kw_only=True)
class Work:
    """What is known of a piece of work.

    The time left follows from all that was done since the work began in this process, so that a
    slow unit of several minutes has one, too. What an earlier process did has no part in it.

    Attributes:
        description: What is shown.
        total: Units of the work.
        done: Units done, by earlier processes too.
        note: Shown next to it.
        values: Latest numbers by name.
        began: When it began, by `time.monotonic`.
    """

    description: str
    total: float
    done: float = 0.0
    note: str = ""
    values: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=lambda: time.monotonic())
    _first: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._first, self._last = self.done, self.began

    def advance(
        self, amount: float, now: float, *, note: str | None, values: Mapping[str, float] | None
    ) -> None:
        """Count `amount` units more at the time `now`; None keeps note and values."""
        self.done += amount
        if amount:
            self._last = now
        if note is not None:
            self.note = note
        if values is not None:
            self.values = dict(values)

    def start_from(self, done: float, now: float) -> None:
        """Count the units that an earlier process did; the time begins now."""
        self.done = self._first = done
        self.began = self._last = now

    def elapsed(self, now: float) -> float:
        """Seconds since it began in this process."""
        return now - self.began

    def unit_seconds(self) -> float | None:
        """Mean seconds of a unit, up to the last one; None before the first."""
        moved = self.done - self._first
        return (self._last - self.began) / moved if moved > 0 else None

    def left(self, now: float) -> float | None:
        """Seconds until it ends, at the mean speed since it began; None before the first unit."""
        remaining, speed = max(self.total - self.done, 0.0), self.unit_seconds()
        if not remaining:
            return 0.0
        if speed is None:
            return None
        return max(speed * remaining - (now - self._last), 0.0)
