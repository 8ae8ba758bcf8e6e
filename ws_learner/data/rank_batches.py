"""One rank's rows of every training batch."""

from __future__ import annotations

from collections.abc import Iterator

from ws_learner.core.process_group import World, part_of
from ws_learner.data.dataset_split import DatasetSplit
from ws_learner.data.device_arrays import on_device
from ws_learner.data.splits import Batch, Split

__all__ = ["read_part"]


def read_part(
    split: Split, batch_size: int, *, world: World, seed: int, skip: int, device: str = "cpu"
) -> Iterator[Batch]:
    """Read one augmented epoch, of every batch the rows that belong to this rank.

    The order and each row are those of a process that reads the whole batch. A `DatasetSplit`
    prepares only the rows it hands out; other splits are read whole and cut.

    Args:
        split: Training examples.
        batch_size: Examples of a whole batch; a smaller last one is left out.
        world: Whose part to read.
        seed: Order and augmentation are a function of it.
        skip: Batches to leave out at the start.
        device: Where they will be used; images in memory are prepared there.
    """
    part = (world.rank, world.size)
    if isinstance(split, DatasetSplit):
        yield from split.batches(
            batch_size, seed=seed, augment=True, skip=skip, drop_last=True, part=part
        )
        return
    source = on_device(split, device)
    reader = source.batches(batch_size, seed=seed, augment=True, skip=skip, drop_last=True)
    for inputs, targets in reader:
        rows = part_of(len(targets), rank=world.rank, size=world.size)
        yield (inputs, targets) if world.size == 1 else (inputs[rows], targets[rows])
