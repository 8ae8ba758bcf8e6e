"""Calibration images of a search, drawn once by seed and kept in memory."""

from __future__ import annotations

from itertools import count, cycle, islice

from torch import Tensor

from ws_learner.core import ComputeDevice
from ws_learner.data import Batch, Split, stacked
from ws_learner.training import epoch_seed, refuse_broken_inputs

__all__ = ["draw_batches", "draw_inputs", "place_batch"]

_HELD_BYTES = 256 << 20


def draw_batches(
    split: Split, number: int, *, size: int, seed: int, compute: ComputeDevice
) -> list[Batch]:
    """The first `number` batches of the shuffled train split, over as many epochs as necessary.

    Beyond `_HELD_BYTES` the batches are repeated: PocketFlow's 400 fine-tuning steps
    on ImageNet would not fit in memory.

    Raises:
        UserError: Inputs hold NaN or infinity.
    """
    seeds = (epoch_seed(seed, epoch) if epoch else seed for epoch in count())
    passes = (split.batches(size, seed=order) for order in seeds)
    held: list[Batch] = []
    room = _HELD_BYTES
    for batch in islice((batch for epoch in passes for batch in epoch), number):
        refuse_broken_inputs(split, "train", batch=batch[0])
        held.append(place_batch(batch, compute))
        room -= batch[0].nbytes
        if room <= 0:
            break
    return list(islice(cycle(held), number))


def draw_inputs(
    split: Split,
    images: int,
    *,
    size: int,
    seed: int,
    compute: ComputeDevice,
    pad_id: int | None = None,
) -> list[Tensor]:
    """Draw inputs of `images` examples in batches of about equal size, at most `size`.

    Raises:
        UserError: Batches differ in shape and there is no `pad_id`, or they hold NaN or infinity.
    """
    if not images:
        return []
    number = -(-images // size)
    batches = draw_batches(split, number, size=size, seed=seed, compute=compute)
    while sum(len(inputs) for inputs, _ in batches) < images:  # a small split has small batches
        number += 1
        batches = draw_batches(split, number, size=size, seed=seed, compute=compute)
    inputs = stacked([inputs for inputs, _ in batches], pad_id=pad_id)[:images]
    return [compute.place(part) for part in inputs.chunk(-(-images // size))]


def place_batch(batch: Batch, compute: ComputeDevice) -> Batch:
    """Move both parts of a batch to the device, the inputs into the memory layout."""
    inputs = compute.place(batch[0])
    return inputs, batch[1].to(inputs.device)
