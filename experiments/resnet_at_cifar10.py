"""ResNet-20/32/44/56 on CIFAR-10 (He et al. 2016, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ws_learner.config import Recipe
from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment

PUBLISHED = Recipe(
    nb_epochs=182,
    batch_size=128,
    lrn_rate=0.1,
    lrn_schedule="step",
    milestones=(0.5, 0.75),
    weight_decay=1e-4,
)
"""He et al. 2016, section 4.2: 64k steps, the rate divided by 10 at 32k and 48k."""

DENSE = Recipe(
    nb_epochs=120,
    batch_size=128,
    lrn_rate=0.2,
    nesterov=True,
    lrn_schedule="one-cycle",
    warmup=0.15,
    weight_decay=5e-4,
    progressive_sizes=((0.3, 0.5), (0.6, 0.75)),
)
"""One cycle (Smith & Topin 2018), on small images first: an epoch costs two thirds."""

SPARSE = Recipe(
    nb_epochs=6,
    batch_size=128,
    lrn_rate=0.02,
    nesterov=True,
    lrn_schedule="one-cycle",
    warmup=0.05,
    weight_decay=5e-4,
)
"""From a dense network; long enough for the ramp and for the sparse network to converge.

Select accuracy at 75 %, the same ratios: 91.2, 91.4 and 91.9 % with a rate of 0.1, 0.05 and 0.02.
"""


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    resnet_size: Literal[20, 32, 44, 56] = 20
    """Number of layers."""
    data_dir: Path | None = None
    """Folder with the CIFAR-10 archive; without it the data are downloaded once and cached."""
    published_recipe: bool = False
    """Train with the paper's 182-epoch recipe."""

    def __post_init__(self) -> None:
        check_settings(self)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.experiment import Experiment, classification, committed_checkpoint, seeded
    from experiments.models.resnet_cifar import resnet_cifar
    from ws_learner.data import load_cifar10

    name = f"resnet{options.resnet_size}_at_cifar10"
    dense = PUBLISHED if options.published_recipe else DENSE
    sparse = PUBLISHED if options.published_recipe else SPARSE
    loss, metric = classification(dense)
    return Experiment(
        name=name,
        model=seeded(lambda: resnet_cifar(options.resnet_size), seed),
        data=load_cifar10(options.data_dir),
        loss=loss,
        metric=metric,
        dense_recipe=dense,
        sparse_recipe=sparse,
        checkpoint=committed_checkpoint(name),
    )
