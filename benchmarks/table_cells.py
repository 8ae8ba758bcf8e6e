"""One cell of an accuracy table: a protocol chooses a profile, the product trains to it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ablation_jobs import Row
from benchmarks.search_tasks import TaskName
from benchmarks.table_training import dense_accuracy, learner, trained
from ws_learner.config import PROTOCOLS, WeightSparseConfig
from ws_learner.core import write_text

__all__ = ["KEYS", "Cell", "cell_row"]

KEYS = ("network", "protocol", "target", "seed", "nb_epochs")
"""Columns that name a cell."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A training of a table.

    Attributes:
        network: Dense network and data, a name of `search_tasks`.
        protocol: Chooses the layer ratios.
        target: Overall prune ratio.
        seed: Of the training, and of the search if the protocol searches. A protocol without
            rollouts always has the profile of seed 0.
        nb_epochs: Length of the sparse training, in epochs.
        rollouts: Most rollouts of a search.
        commit: Version of the code, for the row.
        work: Folder of profiles and of trainings that are not finished.
    """

    network: TaskName
    protocol: str
    target: float
    seed: int
    nb_epochs: float
    rollouts: int = WeightSparseConfig.ws_nb_rlouts
    commit: str = ""
    work: Path

    @property
    def searches(self) -> bool:
        """Whether the protocol needs rollouts."""
        return PROTOCOLS[self.protocol].propose is not None

    @property
    def profile(self) -> str:
        """Name of the profile's folder."""
        seed = f"-{self.rollouts}-rollouts-seed-{self.seed}" if self.searches else ""
        return f"{self.network}-{self.protocol}-{self.target:g}{seed}"

    @property
    def name(self) -> str:
        """Its name in the table."""
        used = f", {self.rollouts} rollouts" if self.searches else ""
        where = f"{self.network} {self.protocol} {self.target:g}"
        return f"{where} seed {self.seed}, {self.nb_epochs:g} epochs{used}"


def cell_row(cell: Cell) -> list[Row]:
    """Allocate, or take the profile that is there; train, or take the same training; one row.

    Accuracies are of the test split: shares in [0, 1]. Seconds are of processors unless they are
    called wall seconds.
    """
    decision, seconds = _profile(cell)
    found = trained(
        cell.network,
        decision["zeros"],
        target=cell.target,
        seed=cell.seed,
        nb_epochs=cell.nb_epochs,
        work=cell.work,
        name=cell.protocol,
    )
    row: Row = {key: getattr(cell, key) for key in KEYS}
    row |= {"accuracy": found["accuracy"], "dense": dense_accuracy(cell.network, cell.work)}
    row |= {"rollouts": decision["rollouts"], "allocation_seconds": seconds, **found}
    return [row | {"zeros": " ".join(map(str, decision["zeros"])), "commit": cell.commit}]


def _profile(cell: Cell) -> tuple[dict[str, Any], float]:
    """The protocol's decision, made once, and the processor seconds that it took."""
    folder = cell.work / "profiles" / cell.profile
    spent = folder / "seconds.txt"
    if not spent.exists():
        protocol: Any = cell.protocol
        config = WeightSparseConfig(
            ws_prune_ratio=cell.target,
            ws_prune_ratio_prtl=protocol,
            ws_nb_rlouts=cell.rollouts,
            ws_nb_rlouts_min=min(WeightSparseConfig.ws_nb_rlouts_min, cell.rollouts),
        )
        seed = cell.seed if cell.searches else 0
        begun = time.process_time()
        learner(cell.network, config, nb_epochs=cell.nb_epochs, seed=seed, folder=folder).allocate()
        write_text(spent, f"{time.process_time() - begun:.1f}\n")
    decision: dict[str, Any] = json.loads((folder / "state" / "allocation.json").read_text())
    return decision, float(spent.read_text())
