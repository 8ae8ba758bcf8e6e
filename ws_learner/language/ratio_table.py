"""The ratio table, with zeros counted in the saved tensors, one in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from envs import IntArray, LayerRow
from ws_learner.language.tensor_folder import TensorFolder
from ws_learner.report import ratio_table

__all__ = ["counted_table"]


def counted_table(rows: Sequence[LayerRow], zeros: IntArray, tensors: TensorFolder) -> pd.DataFrame:
    """The table of `ratios.csv`.

    Args:
        rows: The layer table.
        zeros: (L,) planned zeros.
        tensors: The saved tensors.
    """
    parts = [
        ratio_table([row], zeros[place : place + 1], {row.name: tensors.read(row.name)})
        for place, row in enumerate(rows)
    ]
    return pd.concat(parts, ignore_index=True)
