"""Optional columns of the ratio table: pattern, number format and predicted time of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ws_learner.core import LayerChoice

__all__ = ["CHOICE_COLUMNS", "choice_cells", "choice_heads", "choice_totals", "choice_values"]

CHOICE_COLUMNS = ("pattern", "dtype", "predicted_ms")
"""At the end of `ratios.csv`, in this order, where layers have them."""

_HEADS = {
    "pattern": ("pattern", "left"),
    "dtype": ("dtype", "left"),
    "predicted_ms": ("predicted ms", "right"),
}


def choice_values(
    choices: Sequence[LayerChoice] | None,
    predicted_ms: Sequence[float] | None,
    *,
    layers: int,
) -> dict[str, list[Any]]:
    """The columns that there are, L values each.

    Raises:
        ValueError: One has another length.
    """
    found: dict[str, list[Any]] = {}
    if choices is not None:
        found["pattern"] = [choice.pattern for choice in choices]
        found["dtype"] = [choice.dtype for choice in choices]
    if predicted_ms is not None:
        found["predicted_ms"] = [float(value) for value in predicted_ms]
    for name, values in found.items():
        if len(values) != layers:
            raise ValueError(f"{len(values)} values of {name} for {layers} layers")
    return found


def choice_heads(frame: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Heading and alignment of each optional column of the table."""
    return tuple(_HEADS[name] for name in CHOICE_COLUMNS if name in frame)


def choice_cells(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """Texts of the optional columns, a tuple for each layer."""
    columns = [name for name in CHOICE_COLUMNS if name in frame]
    shown = [[_text(name, value) for value in frame[name].tolist()] for name in columns]
    return list(zip(*shown, strict=True)) if columns else [()] * len(frame)


def choice_totals(frame: pd.DataFrame) -> tuple[str, ...]:
    """The last row of the optional columns."""
    columns = [name for name in CHOICE_COLUMNS if name in frame]
    return tuple(
        _text(name, float(frame[name].sum())) if name == "predicted_ms" else "" for name in columns
    )


def _text(name: str, value: Any) -> str:
    if name != "predicted_ms":
        return str(value)
    return "" if value != value else f"{value:.4g}"  # NaN: not known
