"""Where what ratios are chosen by is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["RatioFiles"]


@dataclass(frozen=True, kw_only=True)
class RatioFiles:
    """Where what ratios are chosen by is kept.

    Attributes:
        survey: What was measured of the dense network.
        database: Folder of the pruned blocks and of what was measured of them; searches by other
            protocols and rewards, of the same target and windows, may share it.
        search: State of this search.
        table: `rollouts.csv`.
    """

    survey: Path
    database: Path
    search: Path
    table: Path
