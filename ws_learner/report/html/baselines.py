"""Ratios that follow from a layer table alone, for runs that kept no `protocols.csv`.

The formulas are those of the protocols of the same name.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from envs import FloatArray, IntArray, largest_remainder, project

__all__ = ["baselines_of"]

_BISECTIONS = 200


def baselines_of(frame: pd.DataFrame, *, most: float) -> dict[str, IntArray]:
    """(L,) zeros of each layer by `uniform`, `heurist` and `erk`, as many as the run planned.

    Layers at ratio 0 stay dense. Empty if the bounds do not allow as many zeros.

    Args:
        frame: The ratio table, with columns `weights`, `prune_ratio` and `shape`.
        most: Largest prune ratio of a layer.
    """
    weights = frame["weights"].to_numpy(np.int64)
    planned = np.rint(frame["prune_ratio"].to_numpy() * weights).astype(np.int64)
    lower = np.zeros_like(weights)
    upper = np.where(planned > 0, np.floor(most * weights).astype(np.int64), 0)
    budget = int(planned.sum())
    if not 0 < budget <= int(upper.sum()):
        return {}
    found = {
        "uniform": _proportional(np.ones(len(weights)), weights, upper, budget),
        "heurist": _proportional(np.log(np.maximum(weights, 2)), weights, upper, budget),
    }
    shapes = [str(shape).split("x") for shape in frame["shape"]] if "shape" in frame else []
    if shapes and all(part.isdecimal() for shape in shapes for part in shape):
        kept = np.array([sum(map(int, shape)) for shape in shapes], np.float64)
        found["erk"] = project(
            weights - kept, budget=budget, lower=lower, upper=upper, weights=weights
        )
    return found


def _proportional(
    direction: FloatArray, weights: IntArray, upper: IntArray, budget: int
) -> IntArray:
    """Zeros at ratios proportional to `direction`; where a layer is full, others take the rest."""
    low, high = 0.0, 1.0 / float(direction.min())
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = np.clip(middle * direction * weights, 0, upper).sum() >= budget
        low, high = (low, middle) if enough else (middle, high)
    ideal = np.clip(high * direction * weights, 0, upper)
    return largest_remainder(ideal, budget, lower=np.zeros_like(upper), upper=upper)
