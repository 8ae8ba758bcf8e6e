"""What a learner needs of a data set: four disjoint parts, each read in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Batch", "DataSplits", "Split"]

Batch = tuple[Tensor, Tensor]
"""(inputs, targets); inputs are float32 (B, C, H, W), or int64 (B, T) word pieces with 0 behind a
sentence's end (see `ws_learner.data.tokens`); targets int64 (B,)."""


class Split(Protocol):
    """A part of a data set. Reading it twice with the same arguments gives the same batches."""

    def __len__(self) -> int:
        """Number of examples."""

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: bool = False,
        skip: int = 0,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Read the split once.

        Args:
            batch_size: Examples per batch; the last batch may be smaller.
            seed: Order and augmentation are a function of it; None reads in file order.
            augment: Apply the data set's training augmentation (sentences: batches of similar
                length); needs a seed.
            skip: Batches to leave out at the start, so that a run can be resumed within an
                epoch: batch k is the same whatever `skip` is.
            drop_last: Leave out a last batch that is smaller than `batch_size`.
        """


@dataclass(frozen=True, kw_only=True)
class DataSplits:
    """Four disjoint parts of one data set.

    Attributes:
        name: E.g. `cifar10`.
        digest: Identifies the very images and the way they are split.
        num_classes: Number of classes.
        input_shape: Shape of one input, (C, H, W), or (T,) of the longest sentence.
        train: Training, calibration and batch-norm images.
        search: Scores rollouts; without augmentation.
        select: Re-scores the best few; without augmentation.
        test: Read once, at the end.
    """

    name: str
    digest: str
    num_classes: int
    input_shape: tuple[int, ...]
    train: Split
    search: Split
    select: Split
    test: Split
