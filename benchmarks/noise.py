"""Random images, for benchmarks with results that do not depend on the images."""

from __future__ import annotations

import numpy as np

from ws_learner.data import ArraySplit, DataSplits

__all__ = ["noise_data"]


def noise_data() -> DataSplits:
    """Random images and labels of CIFAR-10's shape, always the same."""
    rng = np.random.default_rng(0)

    def part(examples: int) -> ArraySplit:
        images = rng.integers(0, 256, size=(examples, 32, 32, 3), dtype=np.uint8)
        labels = rng.integers(0, 10, size=examples)
        return ArraySplit(images, labels, mean=(0.5,) * 3, std=(0.25,) * 3)

    return DataSplits(
        name="noise",
        digest="noise",
        num_classes=10,
        input_shape=(3, 32, 32),
        train=part(4096),
        search=part(2000),
        select=part(100),
        test=part(100),
    )
