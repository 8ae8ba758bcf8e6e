"""Calibration images of a search, drawn once by seed and kept in memory."""

from __future__ import annotations

from itertools import count, cycle, islice

from torch import Tensor

from ws_learner.core import ComputeDevice, Inputs, count_of, device_of, rows_of, tensors_of
from ws_learner.data import Batch, Split, stacked
from ws_learner.training import epoch_seed

__all__ = ["draw_batches", "draw_inputs", "place_batch"]

_HELD_BYTES = 256 << 20


def draw_batches(
    split: Split, number: int, *, size: int, seed: int, compute: ComputeDevice
) -> list[Batch]:
    """The first `number` batches of a shuffled split, over as many epochs as necessary.

    Beyond `_HELD_BYTES` the batches are repeated: PocketFlow's 400 fine-tuning steps
    on ImageNet would not fit in memory.
    """
    seeds = (epoch_seed(seed, epoch) if epoch else seed for epoch in count())
    passes = (split.batches(size, seed=order) for order in seeds)
    held: list[Batch] = []
    room = _HELD_BYTES
    for batch in islice((batch for epoch in passes for batch in epoch), number):
        held.append(place_batch(batch, compute))
        room -= sum(tensor.nbytes for tensor in tensors_of(batch[0]))
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
) -> list[Inputs]:
    """Draw inputs of `images` examples in batches of about equal size, at most `size`.

    Inputs of several tensors stay in the batches that were drawn, the last one cut.

    Raises:
        UserError: Batches differ in shape and there is no `pad_id`.
    """
    if not images:
        return []
    number = -(-images // size)
    batches = draw_batches(split, number, size=size, seed=seed, compute=compute)
    while (
        sum(count_of(inputs) for inputs, _ in batches) < images
    ):  # a small split has small batches
        number += 1
        batches = draw_batches(split, number, size=size, seed=seed, compute=compute)
    parts = [inputs for inputs, _ in batches]
    if not all(isinstance(part, Tensor) for part in parts):
        return _first(parts, images)
    inputs = stacked(parts, pad_id=pad_id)[:images]
    return [compute.place(part) for part in inputs.chunk(-(-images // size))]


def _first(parts: list[Inputs], images: int) -> list[Inputs]:
    """The first examples of batches, in as many batches."""
    chosen: list[Inputs] = []
    for part in parts:
        count = count_of(part)
        chosen.append(part if count <= images else rows_of(part, slice(images)))
        images -= count
        if images <= 0:
            break
    return chosen


def place_batch(batch: Batch, compute: ComputeDevice) -> Batch:
    """Move both parts of a batch to the device, the inputs into the memory layout."""
    inputs: Inputs = compute.place(batch[0])
    return inputs, batch[1].to(device_of(inputs))
