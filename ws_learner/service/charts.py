"""Curves and bars as inline SVG, coloured by the style sheet so that they follow dark mode."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from ws_learner.service.series import Layer, Series, thinned

__all__ = ["bars", "chart"]

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
_MOST_LAYERS = 200
_LARGEST = 1e300  # a damaged file may hold more; differences stay finite


def chart(series: Sequence[Series], *, x: str, y: str, dots: bool = True) -> Markup:
    """A chart of curves over one axis; empty if no curve has a point.

    Args:
        series: The curves.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
        dots: Draw the first of several as dots; otherwise the colours begin with the second.
    """
    shown = [_within(thinned(one)) for one in series if one.points]
    if not shown:
        return Markup("")
    xs = _range([p[0] for one in shown for p in one.points])
    ys = _range([p[1] for one in shown for p in one.points])
    parts = [*_axes(xs, ys, x=x, y=y)]
    for number, one in enumerate(shown):
        places = [(_across(p[0], xs), _up(p[1], ys)) for p in one.points]
        color = number if dots else number + 1
        as_dots = (dots and number == 0 and len(shown) > 1) or len(places) == 1
        parts.append(_dots(places, color) if as_dots else _line(places, color))
    label = escape(", ".join(one.name for one in shown))
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def bars(layers: Sequence[Layer]) -> Markup:
    """A bar for each layer: its share of zeros, or its zeros where only they are known."""
    known = [(one, one.ratio if one.ratio is not None else one.zeros) for one in layers]
    rows = [(one, value) for one, value in known if value is not None][:_MOST_LAYERS]
    if not rows:
        return Markup("")
    shares = all(one.ratio is not None for one, _ in rows)
    most = 1.0 if shares else max((value for _, value in rows), default=1.0) or 1.0
    parts = ['<table class="bars">']
    for one, value in rows:
        text = f"{value:.3f}" if shares else f"{value:,.0f}"
        parts.append(
            f'<tr><th scope="row">{escape(one.name)}</th><td><svg viewBox="0 0 100 10" '
            'preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" '
            f'height="10"/><rect class="bar" width="{100 * min(max(value / most, 0), 1):.2f}" '
            f'height="10"/></svg></td><td class="number">{text}</td></tr>'
        )
    return Markup("".join([*parts, "</table>"]))


def _within(series: Series) -> Series:
    """The curve with numbers that can be subtracted."""
    return Series(series.name, tuple((_cut(x), _cut(y)) for x, y in series.points))


def _cut(value: float) -> float:
    return max(-_LARGEST, min(_LARGEST, value))


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(abs(low), abs(high), 1.0):
        room = 0.05 * max(abs(low), 1.0)
        return low - room, high + room
    return low, high


def _across(value: float, ends: tuple[float, float]) -> float:
    return LEFT + (value - ends[0]) / (ends[1] - ends[0]) * (WIDTH - LEFT - RIGHT)


def _up(value: float, ends: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (value - ends[0]) / (ends[1] - ends[0]) * (HEIGHT - TOP - BOTTOM)


def _ticks(ends: tuple[float, float], count: int) -> list[float]:
    """Round numbers within a range."""
    raw = (ends[1] - ends[0]) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * one for one in (1, 2, 5, 10) if size * one >= raw)
    first = math.ceil(ends[0] / step - 1e-9)
    return [step * i for i in range(first, math.floor(ends[1] / step + 1e-9) + 1)]


def _axes(xs: tuple[float, float], ys: tuple[float, float], *, x: str, y: str) -> list[str]:
    parts = []
    for value in _ticks(ys, 5):
        at = _up(value, ys)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" '
                     f'y2="{at:.1f}"/><text class="tick end" x="{LEFT - 6}" y="{at + 4:.1f}">'
                     f"{value:.4g}</text>")  # fmt: skip
    for value in _ticks(xs, 6):
        parts.append(f'<text class="tick middle" x="{_across(value, xs):.1f}" '
                     f'y="{HEIGHT - BOTTOM + 16}">{value:.4g}</text>')  # fmt: skip
    parts.append(f'<text class="tick end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{escape(x)}</text>')
    parts.append(f'<text class="tick" x="{LEFT}" y="{HEIGHT - 4}">{escape(y)}</text>')
    return parts


def _line(places: Sequence[tuple[float, float]], number: int) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    return f'<polyline class="line c{number % 4}" points="{points}"/>'


def _dots(places: Sequence[tuple[float, float]], number: int) -> str:
    return "".join(
        f'<circle class="dot c{number % 4}" cx="{a:.1f}" cy="{b:.1f}" r="2.6"/>' for a, b in places
    )
