"""Numbers and times as the pages show them."""

from __future__ import annotations

import time

__all__ = ["ago", "duration", "metric", "percent", "size"]


def duration(seconds: float | None) -> str:
    """A span of time.

    Example:
        >>> duration(34.4), duration(200), duration(30300)
        ('34 s', '3 min 20 s', '8 h 25 min')
    """
    if seconds is None:
        return ""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ago(when: float) -> str:
    """How long ago a time was, roughly."""
    seconds = max(time.time() - when, 0.0)
    if seconds < 90:
        return f"{seconds:.0f} s"
    for unit, length in (("min", 60), ("h", 3600)):
        if seconds < 120 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def percent(share: float | None) -> str:
    """A share as a whole percentage."""
    return "" if share is None else f"{100 * share:.0f} %"


def metric(value: float | None, unit: str, *, signed: bool = False) -> str:
    """A metric, in percent if it is a share; a change of a share is in points.

    Example:
        >>> metric(0.9, "share"), metric(-0.05, "share", signed=True), metric(33280, "MACs")
        ('90.00 %', '-5.00 points', '33,280 MACs')
    """
    if value is None:
        return ""
    if unit == "points" or (unit == "share" and signed):
        return f"{100 * value:+.2f} points"
    sign = "+" if signed else ""
    if unit == "share":
        return f"{100 * value:.2f} %"
    if unit == "bytes":
        return size(round(value))
    if abs(value) >= 1000:
        return f"{value:{sign},.0f} {unit}".rstrip()
    return f"{value:{sign}.4g} {unit}".rstrip()


def size(bytes_: int | None) -> str:
    """A number of bytes.

    Example:
        >>> size(999), size(11024), size(2_500_000)
        ('999 B', '11 kB', '2.5 MB')
    """
    if bytes_ is None:
        return ""
    if bytes_ < 1000:
        return f"{bytes_} B"
    return f"{bytes_ / 1e3:.0f} kB" if bytes_ < 1e6 else f"{bytes_ / 1e6:.1f} MB"
