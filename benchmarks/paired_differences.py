"""Means over seeds, and mean paired differences from a reference with their 95 % intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

__all__ = ["interval", "paired_differences"]


def interval(differences: np.typing.NDArray[np.float64]) -> float:
    """Half the width of the 95 % interval of a mean: Student's t; NaN for a single value."""
    count = len(differences)
    if count < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, count - 1) * differences.std(ddof=1) / np.sqrt(count))


def paired_differences(rows: pd.DataFrame, column: str, *, reference: str) -> pd.DataFrame:
    """Compare every entry with a reference entry, seed by seed.

    Args:
        rows: Columns name, target, seed and `column`; one row for each.
        column: What is compared; more is better.
        reference: Name of the entrant the others are subtracted from.

    Returns:
        One row per target and entrant, best first, and per entrant over all targets: number of
        pairs, mean, standard deviation over seeds, reference minus entrant, and half the width
        of its 95 % interval.
    """
    wide = rows.pivot_table(index=["target", "seed"], columns="name", values=column)
    groups = [(f"{target:g}", part) for target, part in wide.groupby(level="target")]
    table = []
    for target, part in [*groups, ("all", wide)]:
        for name in part.mean().sort_values(ascending=False).index:
            ahead = (part[reference] - part[name]).dropna().to_numpy()
            compares = name != reference and len(ahead) > 0
            table.append(
                {
                    "target": target,
                    "name": name,
                    "pairs": len(ahead),
                    "mean": float(part[name].mean()),
                    "std": float(part[name].std()),
                    f"{reference} ahead by": float(ahead.mean()) if compares else np.nan,
                    "+-": interval(ahead) if compares else np.nan,
                }
            )
    return pd.DataFrame(table)
