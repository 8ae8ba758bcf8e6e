"""Figures inside the page: matplotlib's SVG, in the page's colours, without anything global."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from ws_learner.report.figure_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    YELLOW,
    Margins,
    svg_text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PINK", "SKY", "drawing", "legend_height"]

WIDTH = 4.7  # inches: text stays legible on a phone

PINK, SKY = "#CC79A7", "#56B4E9"  # the rest of Okabe & Ito's palette
_COLOURS = {
    **{BLUE: "blue", ORANGE: "orange", GREEN: "green", YELLOW: "yellow", PINK: "pink"},
    **{SKY: "sky", INK: "ink", GREY: "grey", LIGHT: "light"},
}
_VARIABLES = {colour.lower(): f"var(--{name})" for colour, name in _COLOURS.items()}
_HEX = re.compile(r"#[0-9a-f]{6}\b")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_OWN_LINK = re.compile(r"url\(#([\w.-]+)\)")
_FONT = re.compile(r"\s*font-family:[^;]*;?")
_DROPPED = {"metadata", "style"}
_COORDINATES = {"x", "y", "d", "transform", "width", "height"}


def drawing(
    draw: Callable[[Figure], object], *, height: float, margins: Margins, name: str, label: str
) -> Markup:
    """The SVG of a figure as a part of the page.

    Colours become the page's variables, which differ in dark mode. Ids begin with `name`, so that
    figures do not share them. Names of layers in it are text, as matplotlib escapes them.

    Args:
        draw: Draws on the figure.
        height: In inches.
        margins: Around the axes.
        name: Begins its ids.
        label: What it shows, for screen readers.
    """
    root = ElementTree.fromstring(svg_text(draw, width=WIDTH, height=height, margins=margins))
    _clean(root, f"{name}-")
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def legend_height(entries: int, columns: int) -> float:
    """Inches of a legend above the axes."""
    return 0.2 + 0.17 * -(-entries // columns)


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    given = {_local(key): value for key, value in element.attrib.items()}
    element.attrib.clear()
    for key, value in given.items():
        if key == "id":
            value = prefix + value
        elif key == "href":
            value = f"#{prefix}{value.removeprefix('#')}"
        elif key == "style":
            value = _FONT.sub("", _HEX.sub(_variable, value)).strip()
        elif key in _COORDINATES:
            value = _NUMBER.sub(_rounded, value).replace("\n", "")
        element.attrib[key] = _OWN_LINK.sub(rf"url(#{prefix}\1)", value)
    for child in list(element):
        if not isinstance(child.tag, str) or _local(child.tag) in _DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)
    if len(element):
        element.text = None  # line ends
    element.tail = None


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _variable(found: re.Match[str]) -> str:
    return _VARIABLES.get(found[0], found[0])


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
