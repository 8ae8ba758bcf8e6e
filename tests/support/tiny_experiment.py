"""An experiment that needs nothing but this file: it can be sent to a cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from experiments.experiment import Experiment, classification, seeded
from ws_learner.config.recipe import Recipe
from ws_learner.data.arrays import ArraySplit
from ws_learner.data.splits import DataSplits

CLASSES, SIDE = 4, 8


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    width: int = 8
    """Channels of the first layer."""


class Net(nn.Module):
    """Two convolutions with batch norm, and a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width * SIDE * SIDE // 4, CLASSES)

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return self.fc(x.flatten(1))


def part(number: int, examples: int) -> ArraySplit:
    """Classes differ by the colour of one corner, with noise."""
    rng = np.random.default_rng(number)
    labels = rng.integers(0, CLASSES, size=examples)
    images = rng.integers(0, 200, size=(examples, SIDE, SIDE, 3))
    images[np.arange(examples), :4, :4, labels % 3] += 55 * (labels < 3)[:, None, None]
    images[labels == 3, 4:, 4:] += 55
    return ArraySplit(images.astype(np.uint8), labels, mean=(0.4,) * 3, std=(0.25,) * 3, padding=1)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    dense = Recipe(nb_epochs=4, batch_size=32, lrn_schedule="one-cycle", warmup=0.2)
    sparse = Recipe(nb_epochs=4, batch_size=32, lrn_rate=0.03)
    loss, metric = classification(dense)
    sizes = {"train": 256, "search": 100, "select": 100, "test": 200}
    splits = {name: part(i, size) for i, (name, size) in enumerate(sizes.items())}
    return Experiment(
        name="tiny",
        model=seeded(lambda: Net(options.width), seed),
        data=DataSplits(
            name="tiny", digest="tiny", num_classes=CLASSES, input_shape=(3, SIDE, SIDE), **splits
        ),
        loss=loss,
        metric=metric,
        dense_recipe=dense,
        sparse_recipe=sparse,
    )
