"""A small convolutional network on real digits: an experiment file as a user would write it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from experiments.experiment import Experiment, classification, seeded
from tests.support.digits import digits_splits
from ws_learner.config.recipe import Recipe


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    width: int = 8
    """Channels of the first layer."""


def network(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * width, 10),
    )


def build(options: Options, *, seed: int) -> Experiment:
    dense = Recipe(nb_epochs=6, batch_size=50, lrn_schedule="one-cycle", warmup=0.2)
    sparse = Recipe(nb_epochs=4, batch_size=50, lrn_rate=0.03)
    loss, metric = classification(dense)
    return Experiment(
        name="digits",
        model=seeded(lambda: network(options.width), seed),
        data=digits_splits(),
        loss=loss,
        metric=metric,
        dense_recipe=dense,
        sparse_recipe=sparse,
    )
