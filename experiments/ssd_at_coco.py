"""SSD300 on a ResNet-34 (Liu et al. 2016; MLPerf's detector) on COCO's boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.config import Recipe
from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment

DENSE = Recipe(
    nb_epochs=65,
    batch_size=32,
    lrn_rate=2.5e-3,
    lrn_schedule="step",
    milestones=(0.66, 0.83),
    warmup=0.01,
    weight_decay=5e-4,
)
"""MLPerf's: epochs 43 and 54 of 65, the rate of 32 images."""

SPARSE = Recipe(
    nb_epochs=12,
    batch_size=32,
    lrn_rate=1e-3,
    lrn_schedule="cosine",
    warmup=0.01,
    weight_decay=5e-4,
)


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    data_dir: Path | None = None
    """Folder with annotations/instances_{train,val}2017.json, train2017/ and val2017/."""
    year: int = 2017
    """In these names."""
    pretrained: Path | None = None
    """Weights of a ResNet-34 trained on ILSVRC-12, such as torchvision's, for the trunk."""
    data_workers: int | None = None
    """Processes that decode images; by default one per core, at most four."""

    def __post_init__(self) -> None:
        check_settings(self)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.experiment import Experiment, seeded
    from experiments.models.ssd_boxes import SIZE, multibox_loss, share_recognised
    from experiments.models.ssd_detect import precision_of
    from experiments.models.ssd_resnet34 import ssd_resnet34
    from ws_learner.core import UserError
    from ws_learner.data import load_coco

    if options.data_dir is None:
        raise UserError(
            "--data_dir: needed; name the folder with COCO's annotations/, train2017/ and val2017/"
        )
    data, test = load_coco(
        options.data_dir, image_size=SIZE, year=options.year, workers=options.data_workers
    )
    classes, pretrained = data.num_classes, options.pretrained
    return Experiment(
        name="ssd_resnet34_at_coco",
        model=seeded(lambda: ssd_resnet34(num_classes=classes, pretrained=pretrained), seed),
        data=data,
        loss=multibox_loss,
        metric=share_recognised,
        dense_recipe=DENSE,
        sparse_recipe=SPARSE,
        distils=False,
        searches=False,
        measure=lambda model, compute: precision_of(model, data.test, test, compute),
    )
