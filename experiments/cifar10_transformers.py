"""Shared flags and training recipe of the vision transformers on CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.config import Recipe
from ws_learner.core import check_settings

if TYPE_CHECKING:
    from torch import nn

    from experiments.experiment import Experiment

__all__ = ["RECIPE", "TransformerOptions", "transformer_experiment"]

RECIPE = Recipe(
    nb_epochs=30,
    batch_size=128,
    optimizer="adamw",
    lrn_rate=1e-3,
    lrn_schedule="one-cycle",
    warmup=0.1,
    weight_decay=0.05,
    label_smoothing=0.1,
)
"""From fresh weights; a transformer without pretraining wants AdamW and a warm-up."""


@dataclass(frozen=True)
class TransformerOptions:
    """Flags of all of them."""

    patch: int = 4
    """Pixels along the side of a patch."""
    drop: float = 0.0
    """Dropout rate."""
    drop_path: float = 0.0
    """Rate at which whole branches are left out, in the last block; the first one's is 0."""
    data_dir: Path | None = None
    """Folder with the CIFAR-10 archive; without it the data are downloaded once and cached."""

    def __post_init__(self) -> None:
        check_settings(self)


def transformer_experiment(
    name: str, network: Callable[[], nn.Module], *, options: TransformerOptions, seed: int
) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.experiment import Experiment, classification, committed_checkpoint, seeded
    from ws_learner.data import load_cifar10

    loss, metric = classification(RECIPE)
    return Experiment(
        name=name,
        model=seeded(network, seed),
        data=load_cifar10(options.data_dir),
        loss=loss,
        metric=metric,
        dense_recipe=RECIPE,
        sparse_recipe=RECIPE,
        checkpoint=committed_checkpoint(name),
    )
