"""Sparsity of a saved network, tensor by tensor, without the model class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from torch import Tensor

    from ws_learner.pruning.patterns.pattern import Pattern

__all__ = ["COLUMNS", "tensor_table", "tensor_totals"]

COLUMNS = ("name", "shape", "weights", "zeros", "sparsity", "block_sparsity", "mean", "std")
"""Columns of the table, in order; with a pattern also `holds`."""


def tensor_table(
    state: Mapping[str, Tensor], *, pattern: Pattern | str | None = None
) -> pd.DataFrame:
    """Count the zeros of every floating-point tensor.

    Args:
        state: Tensors by name; integer ones (counters) and single numbers are left out.
        pattern: The pattern of the units that `block_sparsity` counts, cut from each tensor as
            (outputs, inputs, *kernel), as which it is stored in most layers; or its spelling.

    Returns:
        One row per tensor with the columns `COLUMNS`. Shares lie in [0, 1]. `block_sparsity` is
        the share of units (blocks, groups, channels) that are pruned as a whole; NaN for tensors
        of one axis and without a pattern. `holds` is `yes` where every zero belongs to such a
        unit, or under N:M where every group has its zeros; `no` where not; empty for tensors of
        one axis and those without a zero. `std` is that of the population.
    """
    from ws_learner.pruning.patterns.pattern import as_pattern

    units = None if pattern is None else as_pattern(pattern)
    rows = [
        _row(name, tensor, units)
        for name, tensor in state.items()
        if tensor.is_floating_point() and tensor.dim()
    ]
    more = () if pattern is None else ("holds",)
    return pd.DataFrame(rows, columns=[*COLUMNS, *more])


def tensor_totals(frame: pd.DataFrame) -> dict[str, Any]:
    """Sum the table up: tensors, weights, zeros, sparsity; with `matrix_` those of two axes up."""
    wide = frame[frame["shape"].str.contains("x")]
    totals: dict[str, Any] = {}
    for prefix, part in (("", frame), ("matrix_", wide)):
        weights, zeros = int(part["weights"].sum()), int(part["zeros"].sum())
        totals[f"{prefix}tensors"] = len(part)
        totals[f"{prefix}weights"], totals[f"{prefix}zeros"] = weights, zeros
        totals[f"{prefix}sparsity"] = zeros / weights if weights else 0.0
    return totals


def _row(name: str, tensor: Tensor, pattern: Pattern | None) -> dict[str, Any]:
    values = tensor.detach().double()
    count = values.numel()
    zeros = count - int(values.count_nonzero())
    return {
        "name": name,
        "shape": "x".join(map(str, tensor.shape)),
        "weights": count,
        "zeros": zeros,
        "sparsity": zeros / count if count else 0.0,
        **_of_pattern(values, pattern, zeros=zeros),
        "mean": float(values.mean()),
        "std": float(values.std(correction=0)),
    }


def _of_pattern(values: Tensor, pattern: Pattern | None, *, zeros: int) -> dict[str, Any]:
    from ws_learner.pruning.patterns.nm import NM

    if pattern is None or values.dim() < 2 or not values.numel():
        return {"block_sparsity": float("nan"), "holds": ""}
    sizes = pattern.sizes(tuple(values.shape))
    prunable = sizes > 0
    # The largest of what a unit prunes: of a block all weights, of N:M the M - N smallest.
    pruned = (pattern.pooled(values.abs(), "max") == 0) & prunable
    share = int(pruned.sum()) / max(1, int(prunable.sum()))
    whole = (
        bool(pruned[prunable].all()) if isinstance(pattern, NM) else _sum(sizes, pruned) == zeros
    )
    verdict = "yes" if whole else "no"
    return {"block_sparsity": share, "holds": verdict if zeros else ""}


def _sum(sizes: Tensor, pruned: Tensor) -> int:
    return int(sizes[pruned.to(sizes.device)].sum())
