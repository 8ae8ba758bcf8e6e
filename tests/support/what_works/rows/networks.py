"""Networks of every kind of layer."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.support.what_works.row import Row, pruned
from ws_learner import DataSplits, split_dataset, top_k_accuracy


def _images(channels: int = 3, side: int = 8) -> DataSplits:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(160, channels, side, side, generator=draw)
    labels = (images.mean((1, 2, 3)) > 0).long()
    return split_dataset(TensorDataset(images, labels), num_classes=2)


def _classifier(network: nn.Module, folder: Path, *, data: DataSplits | None = None) -> None:
    torch.manual_seed(0)
    splits = _images() if data is None else data
    pruned(network, splits, folder, loss=nn.functional.cross_entropy, metric=top_k_accuracy)


def _convolutional(folder: Path) -> None:
    _classifier(
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)
        ),
        folder,
    )


ROWS = (Row(area="network", what="convolutions with batch norm", run=_convolutional),)
