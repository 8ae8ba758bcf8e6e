"""ResNet-18/34/50 on ILSVRC-12, or on any folder of images with one sub-folder per class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ws_learner.config import Recipe
from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment

DENSE = Recipe(
    nb_epochs=100,
    batch_size=256,
    lrn_rate=0.1,
    lrn_schedule="step",
    milestones=(0.3, 0.6, 0.8, 0.9),
    weight_decay=1e-4,
)
"""He et al. 2016, section 3.4, with the drops that PocketFlow uses."""

SPARSE = replace(DENSE, nb_epochs=20, lrn_rate=0.01, lrn_schedule="cosine", milestones=())
"""From a dense network: a fifth of its training, at a tenth of its peak rate."""


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    resnet_size: Literal[18, 34, 50] = 18
    """Number of layers."""
    data_dir: Path | None = None
    """Folder with train/<class>/ and val/<class>/, or with class sub-folders."""
    image_size: int = 224
    """Side of a training image, in pixels."""
    data_workers: int | None = None
    """Processes that decode images; by default one per core, at most four."""

    def __post_init__(self) -> None:
        check_settings(self)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.image_folder import folder_experiment
    from experiments.models.resnet import resnet

    return folder_experiment(
        f"resnet{options.resnet_size}_at_ilsvrc12",
        network=lambda classes: resnet(options.resnet_size, num_classes=classes),
        data_dir=options.data_dir,
        image_size=options.image_size,
        data_workers=options.data_workers,
        dense_recipe=DENSE,
        sparse_recipe=SPARSE,
        seed=seed,
    )
