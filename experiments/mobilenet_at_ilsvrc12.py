"""MobileNet-v1 and -v2 on ILSVRC-12, or on any folder of images with one sub-folder per class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ws_learner.config import Recipe
from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment

DENSE_V1 = Recipe(
    nb_epochs=100,
    batch_size=96,
    lrn_rate=0.045,
    lrn_schedule="step",
    milestones=(0.3, 0.6, 0.8, 0.9),
    weight_decay=4e-5,
)
"""Howard et al. 2017 with PocketFlow's rate and drops."""

DENSE_V2 = Recipe(
    nb_epochs=412,
    batch_size=96,
    lrn_rate=0.045,
    lrn_schedule="exponential",
    lrn_decay=0.98,
    weight_decay=4e-5,
)
"""Sandler et al. 2018, section 6.1: rate 0.045, multiplied by 0.98 every epoch."""

SPARSE = replace(DENSE_V1, nb_epochs=20, lrn_rate=0.0045, lrn_schedule="cosine", milestones=())
"""From a dense network, at a tenth of its peak rate."""


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    mobilenet_version: Literal[1, 2] = 1
    """Which MobileNet."""
    mobilenet_width: float = 1.0
    """Width multiplier."""
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
    from experiments.models.mobilenet_v1 import mobilenet_v1
    from experiments.models.mobilenet_v2 import mobilenet_v2

    network = mobilenet_v1 if options.mobilenet_version == 1 else mobilenet_v2
    return folder_experiment(
        f"mobilenet_v{options.mobilenet_version}_at_ilsvrc12",
        network=lambda classes: network(num_classes=classes, width=options.mobilenet_width),
        data_dir=options.data_dir,
        image_size=options.image_size,
        data_workers=options.data_workers,
        dense_recipe=DENSE_V1 if options.mobilenet_version == 1 else DENSE_V2,
        sparse_recipe=SPARSE,
        seed=seed,
    )
