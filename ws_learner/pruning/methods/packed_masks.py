"""Masks on their way from selection to use, large ones with a bit for each weight."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["PackedMasks"]

_LARGE = 1 << 20
"""Weights of a layer from which its mask is packed."""


class PackedMasks(MutableMapping[str, Tensor]):
    """Bool masks by name; what comes out of a large one on the CPU is a copy."""

    def __init__(self) -> None:
        self._whole: dict[str, Tensor] = {}
        self._packed: dict[str, tuple[NDArray[np.uint8], torch.Size]] = {}

    def __setitem__(self, name: str, mask: Tensor) -> None:
        if mask.numel() < _LARGE or mask.device.type != "cpu":
            self._whole[name] = mask
            self._packed.pop(name, None)
            return
        self._packed[name] = np.packbits(mask.reshape(-1).numpy()), mask.shape
        self._whole.pop(name, None)

    def __getitem__(self, name: str) -> Tensor:
        if name in self._whole:
            return self._whole[name]
        bits, shape = self._packed[name]
        flat = np.unpackbits(bits, count=shape.numel())
        return torch.from_numpy(flat.view(np.bool_)).reshape(shape)

    def __delitem__(self, name: str) -> None:
        if name in self._whole:
            del self._whole[name]
        else:
            del self._packed[name]

    def __iter__(self) -> Iterator[str]:
        yield from (*self._whole, *self._packed)

    def __len__(self) -> int:
        return len(self._whole) + len(self._packed)
