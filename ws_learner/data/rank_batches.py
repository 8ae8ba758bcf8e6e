"""Training batches of one rank of a process group."""

from __future__ import annotations

from collections.abc import Iterator

from ws_learner.core import ProcessGroup, rank_slice, rows_of
from ws_learner.data.dataset_split import DatasetSplit
from ws_learner.data.device_arrays import on_device
from ws_learner.data.splits import Batch, Split

__all__ = ["read_rank_batches"]


def read_rank_batches(
    split: Split,
    batch_size: int,
    *,
    process_group: ProcessGroup,
    seed: int,
    skip: int,
    device: str = "cpu",
) -> Iterator[Batch]:
    """Read one augmented epoch, with the rows of every batch that belong to this rank.

    Order and rows equal those of a process that reads whole batches. A `DatasetSplit`
    prepares only this rank's rows; other splits are read whole and sliced.

    Args:
        split: Training examples.
        batch_size: Examples of a whole batch; a smaller last one is dropped.
        process_group: The rank and the number of ranks.
        seed: Seed of order and augmentation.
        skip: Number of batches to skip at the start.
        device: Device of the training; in-memory images are prepared there.
    """
    part = (process_group.rank, process_group.size)
    if isinstance(split, DatasetSplit):
        yield from split.rank_batches(
            batch_size, part, seed=seed, augment=True, skip=skip, drop_last=True
        )
        return
    source = on_device(split, device)
    reader = source.batches(batch_size, seed=seed, augment=True, skip=skip, drop_last=True)
    for inputs, targets in reader:
        rows = rank_slice(len(targets), rank=process_group.rank, size=process_group.size)
        whole = process_group.size == 1
        yield (inputs, targets) if whole else (rows_of(inputs, rows), targets[rows])
