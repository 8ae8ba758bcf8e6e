"""What a run gives back to its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result"]


@dataclass(frozen=True, eq=False)
class Result:
    """The network, the layer table and the headline numbers of a run.

    Attributes:
        model: The network, of its own class, with plain sparse weights.
        ratios: The layer table with chosen and achieved ratios, see `report.table.COLUMNS`.
        summary: Headline numbers, as in `summary.json`.
    """

    model: nn.Module
    ratios: pd.DataFrame
    summary: dict[str, Any]
