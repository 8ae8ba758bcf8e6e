"""In-memory image split with vectorised gather, random crop and flip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from ws_learner.data.normalization import normalise, normalise_table
from ws_learner.data.reading import MemorySplit
from ws_learner.data.splits import Batch

__all__ = ["ArraySplit", "crop_and_flip", "draw_windows"]


def draw_windows(
    count: int, rng: np.random.Generator, *, padding: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw top, left and mirrored (0 or 1) of `count` random windows, in this order."""
    tops = rng.integers(0, 2 * padding + 1, size=count)
    lefts = rng.integers(0, 2 * padding + 1, size=count)
    return tops, lefts, rng.integers(0, 2, size=count)


def crop_and_flip(
    images: npt.NDArray[np.uint8],  # (B, H, W, C)
    rng: np.random.Generator,
    *,
    padding: int,
    flip: bool = True,
) -> npt.NDArray[np.uint8]:
    """Pad images with zeros, crop a random window of the original size, mirror half of them.

    The usual augmentation of CIFAR-10 (He et al. 2016, section 4.2, with a padding of 4 pixels).
    """
    batch, height, width, channels = images.shape
    padded = np.zeros(
        (batch, height + 2 * padding, width + 2 * padding, channels), dtype=images.dtype
    )
    padded[:, padding : padding + height, padding : padding + width] = images
    tops, lefts, drawn = draw_windows(batch, rng, padding=padding)
    across, mirrored = np.tile(np.arange(width), (batch, 1)), drawn == 1  # (B, W), (B,)
    if flip:
        across[mirrored] = across[mirrored, ::-1]
    image = np.arange(batch).reshape(-1, 1, 1)
    rows = (tops.reshape(-1, 1) + np.arange(height)).reshape(batch, height, 1)
    columns = (lefts.reshape(-1, 1) + across).reshape(batch, 1, width)
    window: npt.NDArray[np.uint8] = padded[image, rows, columns]
    return window


class ArraySplit(MemorySplit):
    """A `Split` over uint8 images in memory.

    Attributes:
        images: (N, H, W, C).
        labels: (N,) int64.
        table: Normalised value of each pixel value, (C, 256).
        padding: Padding of the random crop, in pixels.
        flip: Whether half of the images are mirrored when augmenting.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],  # (N, H, W, C), or (N, C, H, W) with channels_first
        labels: npt.NDArray[np.integer],  # (N,)
        *,
        mean: Sequence[float],
        std: Sequence[float],
        channels_first: bool = False,
        padding: int = 4,
        flip: bool = True,
    ) -> None:
        """Store the arrays, without a copy where possible.

        Args:
            images: Pixels, 0 to 255.
            labels: Class numbers.
            mean: Mean of each channel, in units of the full pixel range (0 to 1).
            std: Standard deviation of each channel, in the same units; above zero.
            channels_first: `images` has the layout (N, C, H, W).
            padding: Padding of the random crop, in pixels; 0 disables the crop.
            flip: Mirror half of the images left to right when augmenting.

        Raises:
            ValueError: Shapes, types or lengths do not match.
        """
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(f"images {images.dtype} {images.shape}: expected four axes of uint8")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images but labels of shape {labels.shape}")
        self.images = images.transpose(0, 2, 3, 1) if channels_first else images
        if self.images.shape[3] != len(mean):
            raise ValueError(f"{self.images.shape[3]} channels but {len(mean)} means")
        self.labels = labels.astype(np.int64)
        self.table = normalise_table(mean, std)
        self.padding, self.flip = padding, flip

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, positions: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Batch:
        """Normalised images, cropped and mirrored at random with `rng`, and their labels."""
        pixels = self.images[positions]
        if rng is not None:
            pixels = crop_and_flip(pixels, rng, padding=self.padding, flip=self.flip)
        return (
            torch.from_numpy(normalise(pixels, self.table)),
            torch.from_numpy(self.labels[positions]),
        )
