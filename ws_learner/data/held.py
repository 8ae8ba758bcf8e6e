"""What splits hold in memory, seen without reading examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from ws_learner.data.arrays import ArraySplit
from ws_learner.data.dataset_split import DatasetSplit
from ws_learner.data.splits import Split
from ws_learner.data.tabular import TableSplit

__all__ = ["Held", "held_tensors"]


@dataclass(frozen=True, kw_only=True)
class Held:
    """Tensors of the examples of a split, and perhaps of others.

    Attributes:
        inputs: (M, ...) inputs; None if they are images of whole numbers.
        targets: (M, ...) targets.
        order: (N,) rows of the split's own examples, in file order; None for all M.
    """

    inputs: Tensor | None
    targets: Tensor
    order: Tensor | None = None

    def own(self, values: Tensor) -> Tensor:
        """(N, ...) the rows of (M, ...) values that are the split's."""
        return values if self.order is None else values[self.order]


def held_tensors(split: Split) -> Held | None:
    """The tensors behind a split in memory; None if it is not of a known kind."""
    if isinstance(split, ArraySplit):
        return Held(inputs=None, targets=torch.from_numpy(split.labels))
    if isinstance(split, TableSplit):
        return Held(inputs=split._rows, targets=split._labels)
    return _of_dataset(split._dataset, None) if isinstance(split, DatasetSplit) else None


def _of_dataset(dataset: Any, order: Tensor | None) -> Held | None:
    if type(dataset) is Subset:
        chosen = torch.as_tensor(list(dataset.indices), dtype=torch.int64)
        return _of_dataset(dataset.dataset, chosen if order is None else chosen[order])
    if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
        inputs, targets = dataset.tensors
        return Held(inputs=inputs, targets=targets, order=order)
    return None
