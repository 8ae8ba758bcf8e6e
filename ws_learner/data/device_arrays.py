"""GPU-resident image split: the batches of an `ArraySplit`, built in GPU memory."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.data.arrays import ArraySplit, draw_windows
from ws_learner.data.reading import batch_generator, epoch_order
from ws_learner.data.splits import Batch, Split

__all__ = ["DeviceArrays", "on_device"]

_SHARE = 4  # images take at most a quarter of the free memory


class DeviceArrays:
    """Split that builds the batches of an `ArraySplit` on a device, bit-identical to the CPU's.

    The random numbers are drawn on the CPU and sent once per epoch. Gather, crop,
    flip and normalisation happen on the device, in channels-last order.
    """

    def __init__(self, split: ArraySplit, device: str | torch.device) -> None:
        """Copy the pixels to the device."""
        self.device = torch.device(device)
        self._images = torch.from_numpy(np.ascontiguousarray(split.images)).to(self.device)
        self._labels = torch.from_numpy(split.labels).to(self.device)
        self._table = torch.from_numpy(split.table).to(self.device)
        self._padding, self._flip = split.padding, split.flip
        _, height, width, channels = self._images.shape
        self._rows = torch.arange(height, device=self.device)
        self._columns = torch.arange(width, device=self.device)
        self._channels = torch.arange(channels, device=self.device)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: bool = False,
        skip: int = 0,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Read the split once; see `ws_learner.data.splits.Split`.

        Raises:
            ValueError: `augment` without a seed, or a negative seed.
        """
        order = epoch_order(len(self), batch_size, seed=seed, augment=augment, drop_last=drop_last)
        plan = np.zeros((4, len(order)), dtype=np.int64)  # image, top, left, mirrored or not
        plan[0] = order
        starts = range(0, len(order), batch_size)[skip:]
        if augment and seed is not None:
            for start in starts:
                part = plan[1:, start : start + batch_size]
                rng = batch_generator(seed, start // batch_size)
                part[:] = draw_windows(part.shape[1], rng, padding=self._padding)
        there = _sent(torch.from_numpy(plan), self.device)
        for start in starts:
            chosen, *windows = there[:, start : start + batch_size]
            pixels = self._images[chosen]
            if augment:
                pixels = self._cut(pixels, *windows)
            values = self._table[self._channels, pixels.long()]
            yield values.permute(0, 3, 1, 2), self._labels[chosen]

    def _cut(self, pixels: Tensor, tops: Tensor, lefts: Tensor, mirrored: Tensor) -> Tensor:
        """Crop and flip as `crop_and_flip` does, to (B, H, W, C)."""
        border = (self._padding,) * 4
        padded = functional.pad(pixels, (0, 0, *border))
        across = self._columns.expand(len(pixels), -1)
        if self._flip:
            across = torch.where(mirrored[:, None] == 1, across.flip(1), across)
        image = torch.arange(len(pixels), device=self.device)[:, None, None]
        rows, columns = tops[:, None] + self._rows, lefts[:, None] + across
        return padded[image, rows[:, :, None], columns[:, None, :]]


_THERE: WeakKeyDictionary[ArraySplit, DeviceArrays] = WeakKeyDictionary()


def on_device(split: Split, device: str) -> Split:
    """Return a split with the same batches on a GPU with enough memory, else the split itself."""
    place = torch.device(device)
    if place.type != "cuda" or not isinstance(split, ArraySplit):
        return split
    known = _THERE.get(split)
    if known is None or known.device != place:
        if split.images.nbytes * _SHARE > torch.cuda.mem_get_info(place)[0]:
            return split
        known = _THERE[split] = DeviceArrays(split, place)
    return known


def _sent(values: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
