"""The table of layers, with the numbers that it is sorted by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ws_learner.report.choice_columns import choice_cells, choice_heads, choice_totals
from ws_learner.report.html.run_files import RunFiles, text
from ws_learner.report.table import totals

__all__ = ["MOST_LAYERS", "LayerLine", "LayerTable", "layers_of"]

MOST_LAYERS = 500


@dataclass(frozen=True)
class LayerLine:
    """A row: texts, and the numbers behind them.

    Attributes:
        layer: Name.
        about: Role and shape.
        weights: Number of weights.
        chosen: Planned prune ratio.
        achieved: Counted prune ratio.
        macs: Multiply-accumulates of one example, dense.
        macs_kept: Those with a nonzero weight.
        size: Share of the largest layer's weights, in [0, 1].
        more: Texts of optional columns.
    """

    layer: str
    about: str
    weights: int
    chosen: float
    achieved: float
    macs: int
    macs_kept: int
    size: float
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerTable:
    """Rows, the number of rows left out, totals, and headings of the optional columns."""

    rows: list[LayerLine]
    left_out: int
    total: LayerLine
    heads: tuple[str, ...]


def layers_of(files: RunFiles) -> LayerTable | None:
    """The table; None for a run that sets no ratios."""
    frame = files.ratios
    if frame is None:
        return None
    largest = max(int(frame["weights"].max()), 1)
    about = [
        " ".join(text(row[name], 60) for name in ("role", "shape") if name in frame)
        for row in frame.to_dict("records")
    ]
    plain: Iterable[Any] = frame.iloc[:MOST_LAYERS].itertuples()
    about, more_cells = about[:MOST_LAYERS], choice_cells(frame)[:MOST_LAYERS]
    rows = [
        LayerLine(
            layer=text(row.layer),
            about=role,
            weights=int(row.weights),
            chosen=float(row.prune_ratio),
            achieved=float(row.achieved),
            macs=int(row.macs),
            macs_kept=int(row.macs_kept),
            size=float(row.weights) / largest,
            more=tuple(text(cell, 40) for cell in more),
        )
        for row, role, more in zip(plain, about, more_cells, strict=True)
    ]
    heads = tuple(head for head, _ in choice_heads(frame))
    return LayerTable(rows, len(frame) - len(rows), _total(frame), heads)


def _total(frame: pd.DataFrame) -> LayerLine:
    total = totals(frame)
    weights = int(total["weights"])
    planned = float((frame["prune_ratio"] * frame["weights"]).sum()) / max(weights, 1)
    return LayerLine(
        layer="total",
        about=f"{len(frame):,} layers",
        weights=weights,
        chosen=planned,
        achieved=float(total["achieved_prune_ratio"]),
        macs=int(total["dense_macs"]),
        macs_kept=int(total["kept_macs"]),
        size=1.0,
        more=tuple(choice_totals(frame)),
    )
