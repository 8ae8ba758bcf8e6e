"""The data interface of a learner: four disjoint splits, each read in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor

from ws_learner.core import OutputKind, check_output_kind

__all__ = ["Batch", "DataSplits", "MeasuredOn", "Split", "UntestedSplits"]

Batch = tuple[Any, Tensor]
"""(inputs, targets); inputs are float32 (B, C, H, W), or int64 (B, T) word pieces padded with
`DataSplits.pad_id`, or several tensors: a tuple, given as `model(*inputs)`, or a dict, given as
`model(**inputs)`. Targets are int64 (B,) class numbers, (B, T) tags of words, -100 at padding, or
whatever the loss takes, such as int64 (B, H, W) or float32 (B,); (B, 0) of examples without any."""


MeasuredOn = Literal["test", "validation"]
"""What the networks are measured on at the end."""


class Split(Protocol):
    """A split of a data set; reading it with the same arguments gives the same batches."""

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
            seed: Seed of order and augmentation; None reads in file order.
            augment: Apply the data set's training augmentation (sentences: batches of similar
                length); needs a seed.
            skip: Number of batches to skip at the start, to resume a run within an epoch; batch k
                does not depend on `skip`.
            drop_last: Drop a last batch that is smaller than `batch_size`.
        """


@dataclass(frozen=True, kw_only=True)
class DataSplits:
    """Four disjoint splits of one data set.

    Attributes:
        name: Name, for example `cifar10`.
        digest: Hash of the images and of how they are split.
        num_classes: Number of classes, or of labels; 1 for numbers.
        input_shape: Shape of one input, (C, H, W), or (T,) of the longest sentence; of several that
            of the first.
        train: For training, calibration and batch-norm statistics.
        search: For scoring rollouts; without augmentation.
        select: For re-scoring the best rollouts; without augmentation.
        test: Read once, at the end.
        outputs: What the outputs of a network on these data mean; None tells it from shapes and
            targets.
        pad_id: Number that fills inputs (B, T) after the end of a sentence. Batches may then be
            padded further or cut to their longest sentence, and padding does not count. None:
            every number is a value, and the network gets all columns. By default what `train`
            says, which is 0 for a `TokenSplit` and None for other splits.
        measured_on: `test`; see `UntestedSplits`.
    """

    name: str
    digest: str
    num_classes: int
    input_shape: tuple[int, ...]
    train: Split
    search: Split
    select: Split
    test: Split
    outputs: OutputKind | None = None
    pad_id: int | None = None
    measured_on: ClassVar[MeasuredOn] = "test"

    def __post_init__(self) -> None:
        if self.outputs is not None:
            check_output_kind(self.outputs)
        if self.pad_id is None:
            object.__setattr__(self, "pad_id", getattr(self.train, "pad_id", None))


@dataclass(frozen=True, kw_only=True)
class UntestedSplits(DataSplits):
    """Splits without a test set: `test` holds the examples of `search` and `select`.

    Reports speak of a validation, not of a test.
    """

    measured_on: ClassVar[MeasuredOn] = "validation"
