"""Preparation of photographs as a network asks for it: size, crop, mean, deviation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ws_learner.data.image_decoding import (
    MEAN,
    STD,
    centre_window,
    open_photograph,
    random_window,
)
from ws_learner.data.normalization import normalise, normalise_table

__all__ = ["ImagePreparation", "PreparedPhotographs"]


@dataclass(frozen=True, kw_only=True)
class ImagePreparation:
    """How an RGB image becomes an input (3, size, size).

    Attributes:
        size: Height and width of an input, in pixels: the centre of the resized image.
        resized: The shorter side is resized to this many pixels.
        squared: Whether both sides are, whatever the image's shape.
        mean: Of each channel, in units of the full pixel range (0 to 1).
        std: Deviation of each channel in the same units, above 0.
        resample: Pillow's number of the interpolation: 0 nearest, 2 bilinear, 3 bicubic.
    """

    size: int
    resized: int
    squared: bool = False
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    resample: int = int(Image.Resampling.BILINEAR)

    def centred(self, picture: Image.Image) -> Image.Image:
        """The picture without augmentation, (size, size)."""
        short = min(picture.size)
        width, height = (
            self.resized if self.squared or side == short else int(self.resized * side / short)
            for side in picture.size
        )
        picture = picture.resize((width, height), Image.Resampling(self.resample))
        return picture.crop(centre_window(width, height, size=self.size))

    def varied(self, picture: Image.Image) -> Image.Image:
        """A random window of the picture, mirrored half of the time; draws as Python's `random`."""
        window = random_window(*picture.size)
        square = (self.size, self.size)
        picture = picture.resize(square, Image.Resampling(self.resample), box=window)
        if random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return picture


class PreparedPhotographs:
    """Map-style data set of image files: (float32 (3, size, size), class number)."""

    def __init__(
        self,
        files: Sequence[str],
        labels: npt.NDArray[np.int64],  # (N,)
        preparation: ImagePreparation,
        *,
        augment: bool = False,
    ) -> None:
        """Store the paths; files are opened when read.

        Args:
            files: Paths of the N images.
            labels: Class numbers.
            preparation: Conversion to inputs.
            augment: Read random windows instead of centres.
        """
        self._files, self._labels = files, labels
        self._preparation, self._augment = preparation, augment
        self._table = normalise_table(preparation.mean, preparation.std)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decode one image.

        Raises:
            UserError: The file is no image, or broken; the message names it.
        """
        picture = open_photograph(self._files[index])
        prepare = self._preparation.varied if self._augment else self._preparation.centred
        pixels = normalise(np.asarray(prepare(picture))[None], self._table)
        return torch.from_numpy(pixels[0]), int(self._labels[index])
