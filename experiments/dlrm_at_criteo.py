"""DLRM (Naumov et al. 2019) in MLPerf's size on Criteo's click logs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.config import Recipe
from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment

DENSE = Recipe(
    nb_epochs=1,
    batch_size=2048,
    optimizer="adam",
    lrn_rate=1e-3,
    lrn_schedule="linear",
    warmup=0.05,
    weight_decay=0.0,
)
"""One pass, as click logs are trained on; more of them over-fit the tables."""

SPARSE = dataclasses.replace(DENSE, lrn_rate=2e-4)
"""Slower: Adam's steps have one size whatever the gradient's, and so has group lasso's pull."""


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    data_dir: Path | None = None
    """Criteo's file of clicks, or a folder with train.txt (Kaggle's) or day_0 (of the Terabyte
    set), unpacked."""
    table_rows: int = 10_000
    """Rows of each of the 26 tables; words are taken modulo it."""
    lines: int | None = None
    """Lines to read; all by default."""

    def __post_init__(self) -> None:
        check_settings(self)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.dlrm_training import area_under_curve
    from experiments.experiment import Experiment, binary, seeded
    from experiments.models.dlrm import dlrm
    from ws_learner.core import UserError
    from ws_learner.data import load_criteo

    if options.data_dir is None:
        raise UserError("--data_dir: needed; name Criteo's train.txt, or the folder with it")
    loss, metric = binary()
    data = load_criteo(options.data_dir, rows=options.table_rows, limit=options.lines)
    return Experiment(
        name="dlrm_at_criteo",
        model=seeded(lambda: dlrm(rows=options.table_rows), seed),
        data=data,
        loss=loss,
        metric=metric,
        dense_recipe=DENSE,
        sparse_recipe=SPARSE,
        outputs="labels",
        measure=lambda model, compute: {"AUC": area_under_curve(model, data.test, compute=compute)},
    )
