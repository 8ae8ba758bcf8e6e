"""Style of all figures: reduced axes, colour-blind-safe colours, reproducible files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ws_learner.core import shown, write_with

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "LIGHT",
    "ORANGE",
    "YELLOW",
    "Margins",
    "canvas",
    "plain_label",
    "quiet",
    "svg_text",
]

# Palette of Okabe & Ito, distinguishable with common colour blindness.
BLUE, ORANGE, GREEN, YELLOW = "#0072B2", "#D55E00", "#009E73", "#E69F00"
INK, GREY, LIGHT = "#222222", "#767676", "#DDDDDD"

_STYLE: dict[str, Any] = {
    "svg.hashsalt": "ws_learner",  # reproducible element ids
    "svg.fonttype": "none",  # keep text as text: small, searchable, accessible
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # bundled with matplotlib: same layout everywhere
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
}

_SVG: dict[str, Any] = {"Date": None, "Creator": "ws_learner"}


def plain_label(name: object) -> str:
    """A name as a figure shows it: no control characters, and dollars begin no formula."""
    return shown(name, most=200).replace("$", r"\$")


@contextmanager
def canvas(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Create a figure to draw on; save it atomically as `path` (SVG or PNG) on leaving.

    Neither pyplot nor a display is used. The file has no date and no random ids, so the same
    data gives the same bytes on one matplotlib version.

    Args:
        path: Where the figure goes; its suffix is the format.
        width: In inches.
        height: In inches.
    """
    with _styled(width, height, ground="white") as figure:
        yield figure
        metadata = _SVG if path.suffix == ".svg" else {"Software": None}
        write_with(path, lambda temporary: figure.savefig(temporary, dpi=150, metadata=metadata))


@dataclass(frozen=True)
class Margins:
    """Inches around the axes, which a figure of known contents needs no search for.

    Attributes:
        left: For tick labels and the axis label.
        top: For the legend.
        bottom: For tick labels and the axis label.
        right: For the half of the last tick label.
    """

    left: float
    top: float
    bottom: float = 0.5
    right: float = 0.15


def svg_text(
    draw: Callable[[Figure], object], *, width: float, height: float, margins: Margins
) -> str:
    """The SVG of a figure without background, reproducible as those of `canvas` are.

    Args:
        draw: Draws on the figure.
        width: In inches.
        height: In inches.
        margins: Around the axes.
    """
    buffer = io.StringIO()
    with _styled(width, height, ground="none", layout=None) as figure:
        draw(figure)
        figure.subplots_adjust(
            left=margins.left / width,
            right=1 - margins.right / width,
            top=1 - margins.top / height,
            bottom=margins.bottom / height,
            hspace=0.32,
        )
        figure.savefig(buffer, format="svg", metadata=_SVG)
    return buffer.getvalue()


@contextmanager
def _styled(
    width: float,
    height: float,
    *,
    ground: str,
    layout: Literal["constrained"] | None = "constrained",
) -> Iterator[Figure]:
    """An empty figure in our style."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        # The user's matplotlib settings must not change a report.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, _STYLE))
        matplotlib.rcParams["axes.facecolor"] = ground
        figure = Figure(figsize=(width, height), layout=layout, facecolor=ground)
        FigureCanvasAgg(figure)
        yield figure


def quiet(axes: Axes, *, grid: str) -> None:
    """Keep only the left and bottom spines and a faint grid along the axis `grid`."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=LIGHT, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
