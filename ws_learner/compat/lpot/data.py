"""The data sets and transforms that an LPOT file names, as splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ws_learner.compat.lpot.schema import Loader
from ws_learner.core import UserError
from ws_learner.data import (
    Batch,
    DatasetSplit,
    DataSplits,
    Examples,
    Split,
    Transformed,
    cifar10_arrays,
    load_image_folder,
    steady,
    stratified_parts,
)

__all__ = ["LimitedSplit", "find_data_folder", "load_splits"]


def find_data_folder(loader: Loader) -> Path | None:
    """The folder to split: the parent of `root` if that has both `train` and `val`."""
    root = loader.root
    if root is not None and root.name == "train" and (root.parent / "val").is_dir():
        return root.parent
    return root


def load_splits(loader: Loader, *, workers: int | None = None) -> DataSplits:
    """Load the data; training images are transformed as the file says, others without randomness.

    LPOT trains on all of `root`; here search and select images are held back, and a fifth as a
    test part unless there is a `val` folder next to `root`.

    Raises:
        UserError: Folders or images are missing, or the transforms leave images of many sizes.
    """
    _check_size(loader)
    if loader.dataset == "CIFAR10":
        return _cifar10(loader)

    def prepare(files: Sequence[str], labels: npt.NDArray[np.int64], augment: bool) -> Examples:
        steps = loader.transforms
        return Transformed(files, labels, steps=steps if augment else steady(steps))

    folder = find_data_folder(loader)
    if folder is None or not folder.is_dir():
        raise UserError(
            f"ImageFolder: root {loader.root}: no such folder; name one with a sub-folder of "
            "images per class"
        )
    return load_image_folder(
        folder, image_size=_size(loader) or 1, workers=workers, prepare=prepare
    )


def _size(loader: Loader) -> int | None:
    """Side of the last square that the transforms make."""
    sizes = [settings["size"] for name, settings in loader.transforms if name.endswith("Crop")]
    return int(sizes[-1]) if sizes else None


def _check_size(loader: Loader) -> None:
    if loader.dataset == "ImageFolder" and _size(loader) is None:
        raise UserError(
            "transform: images of a folder differ in size, so one of RandomResizedCrop, "
            "RandomCrop and CenterCrop is needed to put them into a batch"
        )


def _cifar10(loader: Loader) -> DataSplits:
    root = loader.root
    arrays = cifar10_arrays(root if root is not None and root.is_dir() else None)
    labels = arrays["train_labels"].astype(np.int64)
    search, select, train = stratified_parts(labels, sizes=(2_000, 4_000), seed=0)
    calm = steady(loader.transforms)

    def part(images: npt.NDArray[np.uint8], of: npt.NDArray[np.int64]) -> DatasetSplit:
        augmented = Transformed(images, of, steps=loader.transforms)
        return DatasetSplit(Transformed(images, of, steps=calm), augmented=augmented)

    def chosen(places: npt.NDArray[np.int64]) -> DatasetSplit:
        kept = np.sort(places)
        return part(arrays["train_images"][kept], labels[kept])

    side = _size(loader) or 32
    identity = f"cifar10 {loader.transforms}"
    return DataSplits(
        name="cifar10",
        digest=hashlib.sha256(identity.encode()).hexdigest(),
        num_classes=10,
        input_shape=(3, side, side),
        train=chosen(train),
        search=chosen(search),
        select=chosen(select),
        test=part(arrays["test_images"], arrays["test_labels"].astype(np.int64)),
    )


class LimitedSplit:
    """LPOT's `iteration`: an epoch ends after so many batches, of other images every time."""

    def __init__(self, split: Split, iteration: int | None, batch_size: int) -> None:
        """Read at most `iteration` batches of `batch_size` from `split`; None: all."""
        self._split, self._iteration, self._batch_size = split, iteration, batch_size

    def __len__(self) -> int:
        if self._iteration is None:
            return len(self._split)
        return min(len(self._split), self._iteration * self._batch_size)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: bool = False,
        skip: int = 0,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Read the split once, as far as it goes; see `ws_learner.data.splits.Split`."""
        batches = self._split.batches(
            batch_size, seed=seed, augment=augment, skip=skip, drop_last=drop_last
        )
        if self._iteration is None:
            return batches
        return islice(batches, max(0, -(-len(self) // batch_size) - skip))
