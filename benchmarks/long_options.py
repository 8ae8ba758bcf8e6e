"""Options of `benchmarks.long_ground`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["PROTOCOLS", "Options"]

PROTOCOLS = ("optimal", "bayesian", "surrogate", "evolution")
_RESULTS = Path(__file__).parents[1] / "experiments" / "results" / "long_ground"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, and for how long.

    Attributes:
        part: `ray`, `search`, or `report` of what is recorded.
        runs: Small searches over one Ray, all calls together.
        per_pool: Searches that one pool of Ray workers serves.
        workers: Rollout workers on Ray.
        every: Runs between two readings.
        protocols: Protocols of the long searches.
        rollouts: Rollouts of each.
        at_once: Run the protocols side by side.
        minutes: Stop after this time; the same command then goes on.
        out: Folder of the tables.
        work: Folder of what the searches save; without it they start anew.
    """

    part: Annotated[Literal["ray", "search", "report"], tyro.conf.Positional]
    runs: int = 1000
    per_pool: int = 25
    workers: int = 1
    every: int = 25
    protocols: tuple[str, ...] = PROTOCOLS
    rollouts: int = 2000
    at_once: bool = False
    minutes: float = field(default=600.0)
    out: Path = _RESULTS
    work: Path = Path("runs") / "long_ground"
