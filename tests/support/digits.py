"""Real 8x8 handwritten digits (scikit-learn's copy of UCI optdigits) as small splits."""

from __future__ import annotations

import numpy as np

from ws_learner.data.arrays import ArraySplit
from ws_learner.data.splits import DataSplits
from ws_learner.data.stratify import stratified_parts

MEAN, STD = (0.305,), (0.376,)  # of pixel / 255, rounded


def digits_splits(*, scale: int = 1, split_seed: int = 0) -> DataSplits:
    """1000 train, 200 search, 200 select, 397 test; inputs are (1, 8 * scale, 8 * scale)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)[:, None]
    labels = bunch.target.astype(np.int64)
    search, select, test, train = (
        ArraySplit(
            pixels[part],
            labels[part],
            mean=MEAN,
            std=STD,
            channels_first=True,
            padding=scale,
            flip=False,
        )
        for part in stratified_parts(labels, sizes=(200, 200, 397), seed=split_seed)
    )
    return DataSplits(
        name="digits",
        digest=f"digits-{scale}-{split_seed}",
        num_classes=10,
        input_shape=(1, 8 * scale, 8 * scale),
        train=train,
        search=search,
        select=select,
        test=test,
    )
