"""A small network on images of my own.

Run it as it is:      ws-learner prune FILE    (or ./run_local.sh FILE)
A quick try:          ws-learner prune FILE --nb_epochs 1 --num_rollouts 20
Another target:       ws-learner prune FILE --prune_ratio 0.9
All flags:            ws-learner prune FILE -h

Replace what is marked (1) to (4); the rest may stay. A trained network need not be trained again:
give its weights with --dense_checkpoint weights.safetensors (or .pt, a state_dict).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from experiments.experiment import Experiment, seeded
from ws_learner import DataSplits, Recipe, split_dataset, top_k_accuracy
from ws_learner.core import check_settings

CLASSES = 3
SIDE = 16  # pixels


@dataclass(frozen=True)
class Options:
    """(1) Flags of this file: each field becomes one, and the line below it is its help."""

    width: int = 16
    """Channels of the first layer."""
    images: int = 1200
    """Number of images that are drawn."""

    def __post_init__(self) -> None:
        check_settings(self)  # refuses values of another type


def network(width: int) -> nn.Module:
    """(2) Your network, untrained: any `nn.Module` that maps a batch of inputs to outputs.

    Its layers are found by themselves. The sparse network keeps its class and state_dict keys.
    """
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(32 * width, CLASSES),
    )


def load(count: int) -> DataSplits:
    """(3) Your data.

    Any map-style `torch.utils.data.Dataset` of pairs (input, target) will do in place of the
    `TensorDataset`. It is split at random: 10 % to score candidates, 10 % to choose among the best,
    20 % for the test at the end, the rest for training. If you have a test set of your own, build
    `DataSplits` from four `ws_learner.data.DatasetSplit`. For a folder of images, see
    `ws_learner.data.load_image_folder`.
    """
    images, labels = draw(count, seed=0)
    return split_dataset(TensorDataset(images, labels), num_classes=CLASSES, name="stripes")


def draw(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Plain images, horizontal and vertical stripes, all noisy: (count, 3, 16, 16) and classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    images = 1.5 * torch.randn(count, 3, SIDE, SIDE, generator=generator)
    wave = torch.sin(torch.arange(SIDE) * 2.0)
    images[labels == 1] += wave[:, None]
    images[labels == 2] += wave[None, :]
    return images, labels


def build(options: Options, *, seed: int) -> Experiment:
    """Put the parts together; called with the flags and `--seed`."""
    return Experiment(
        name="my_images",  # part of the name of the run's folder
        model=seeded(lambda: network(options.width), seed),
        data=load(options.images),
        loss=nn.CrossEntropyLoss(),  # (outputs, targets) -> scalar
        metric=top_k_accuracy,  # (outputs, targets) -> one score in [0, 1] per example
        # (4) How the dense network is trained, and then the sparse one from its weights. Half of
        # the sparse training is the ramp to the target.
        dense_recipe=Recipe(nb_epochs=6, batch_size=64, optimizer="adamw", lrn_rate=3e-3),
        sparse_recipe=Recipe(nb_epochs=6, batch_size=64, optimizer="adamw", lrn_rate=1e-3),
    )
