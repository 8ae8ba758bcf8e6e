"""ResNeXt-101 32x8d on ILSVRC-12, or on any folder of images with one sub-folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.resnet_at_ilsvrc12 import DENSE, SPARSE
from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

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
    from experiments.models.resnext import resnext101

    return folder_experiment(
        "resnext101_at_ilsvrc12",
        network=lambda classes: resnext101(num_classes=classes),
        data_dir=options.data_dir,
        image_size=options.image_size,
        data_workers=options.data_workers,
        dense_recipe=DENSE,
        sparse_recipe=SPARSE,
        seed=seed,
    )
