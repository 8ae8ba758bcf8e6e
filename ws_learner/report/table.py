"""The ratio table: planned prune ratios and those counted in the saved weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from envs import IntArray, LayerRow
from ws_learner.report.choice_columns import choice_values
from ws_learner.report.csv_io import read_tidy
from ws_learner.report.ratios_file import read_ratios

if TYPE_CHECKING:
    from torch import Tensor

from ws_learner.core import AnyPath, LayerChoice, as_path

__all__ = ["COLUMNS", "ratio_table", "read_ratios", "read_table", "to_csv", "totals"]

COLUMNS = (
    "layer",
    "kind",
    "role",
    "shape",
    "weights",
    "prune_ratio",
    "achieved",
    "macs",
    "macs_kept",
)
"""Columns of `ratios.csv`, in order; after them those of `CHOICE_COLUMNS` that there are."""


def ratio_table(
    layers: Sequence[LayerRow],
    zeros: IntArray,
    state: Mapping[str, Tensor],
    *,
    choices: Sequence[LayerChoice] | None = None,
    predicted_ms: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Build the table of planned and achieved ratios.

    Args:
        layers: The layer table, L rows in forward order.
        zeros: (L,) planned number of zeros of each layer.
        state: The saved tensors by parameter name; zeros are counted here.
        choices: L choices, for the columns `pattern` and `dtype`.
        predicted_ms: L latencies in milliseconds, for the column of this name.

    Returns:
        One row per layer with the columns `COLUMNS`, and those of `CHOICE_COLUMNS` that were given.
        `prune_ratio` is planned, `achieved` is counted, both shares in [0, 1]; `macs_kept` is
        `macs` times the achieved density, rounded.

    Raises:
        ValueError: A sequence has another length, or a tensor is missing or has another shape.
    """
    if len(zeros) != len(layers):
        raise ValueError(f"{len(zeros)} zero counts for {len(layers)} layers")
    rows = [
        _row(layer, planned=int(count), kept=_count_kept(layer, state))
        for layer, count in zip(layers, zeros, strict=True)
    ]
    more = choice_values(choices, predicted_ms, layers=len(layers))
    return pd.DataFrame(rows, columns=list(COLUMNS)).assign(**more)


def _count_kept(layer: LayerRow, state: Mapping[str, Tensor]) -> int:
    tensor = state.get(layer.name)
    if tensor is None:
        raise ValueError(f"the saved tensors have no {layer.name}")
    if tuple(tensor.shape) != layer.shape:
        raise ValueError(f"{layer.name} is {tuple(tensor.shape)}, the layer table: {layer.shape}")
    return int(tensor.count_nonzero())


def _row(layer: LayerRow, *, planned: int, kept: int) -> dict[str, object]:
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "role": layer.role,
        "shape": "x".join(map(str, layer.shape)),
        "weights": layer.weights,
        "prune_ratio": planned / layer.weights,
        "achieved": (layer.weights - kept) / layer.weights,
        "macs": layer.macs,
        # Integer arithmetic: exact for any network, halves are rounded up.
        "macs_kept": (2 * layer.macs * kept + layer.weights) // (2 * layer.weights),
    }


def totals(frame: pd.DataFrame) -> dict[str, int | float]:
    """Totals of the table: weights, zeros, achieved_prune_ratio, dense_macs, kept_macs."""
    weights = int(frame["weights"].sum())
    # A count divided by its total and multiplied back rounds to the same count below 2**52.
    zeros = int((frame["achieved"] * frame["weights"]).round().astype("int64").sum())
    return {
        "weights": weights,
        "zeros": zeros,
        "achieved_prune_ratio": zeros / weights if weights else 0.0,
        "dense_macs": int(frame["macs"].sum()),
        "kept_macs": int(frame["macs_kept"].sum()),
    }


def to_csv(frame: pd.DataFrame) -> str:
    """Format the table as CSV; the same table always gives the same bytes.

    Floats are written with the fewest digits that read back as the same number.
    """
    return frame.to_csv(index=False, lineterminator="\n")


def read_table(path: AnyPath) -> pd.DataFrame:
    """Read a run's `ratios.csv` with its exact numbers.

    For a file given by a user, see `read_ratios`.
    """
    path = as_path(path)
    return read_tidy(path, text=("layer", "kind", "role", "shape", "pattern", "dtype"))
