"""Image decoding to tensors, with the usual ImageNet augmentation."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.data.normalization import normalise, normalise_table

__all__ = ["MEAN", "STD", "Photographs", "centre_window", "open_photograph", "random_window"]

# Mean and standard deviation of the ILSVRC-12 training images, in the full pixel range's units.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

_SCALE = (0.08, 1.0)  # share of the image area that is kept
_RATIO = (3 / 4, 4 / 3)  # width / height of the window
_TRIES = 10

CropBox = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


def random_window(width: int, height: int) -> CropBox:
    """Draw a window of 8 to 100 % of the area with an aspect ratio of 3/4 to 4/3.

    As in Szegedy et al. 2015, section 6. Draws from Python's global generator. If ten draws do not
    fit the image, the largest allowed window at its centre is returned.
    """
    low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
    for _ in range(_TRIES):
        area = width * height * random.uniform(*_SCALE)
        ratio = math.exp(random.uniform(low, high))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = random.randint(0, width - across), random.randint(0, height - down)
            return left, top, left + across, top + down
    across = min(width, max(1, round(height * _RATIO[1])))
    down = min(height, max(1, round(width / _RATIO[0])))
    return _centred(width, height, across, down)


def centre_window(width: int, height: int, *, size: int) -> CropBox:
    """Centred window of `size` x `size`."""
    return _centred(width, height, size, size)


def _centred(width: int, height: int, across: int, down: int) -> CropBox:
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


class Photographs:
    """Map-style data set of image files: (float32 (3, size, size), class number)."""

    def __init__(
        self,
        files: Sequence[str],
        labels: npt.NDArray[np.int64],  # (N,)
        *,
        image_size: int,
        augment: bool = False,
    ) -> None:
        """Store the paths; files are opened when read.

        Args:
            files: Paths of the N images.
            labels: Class numbers.
            image_size: Height and width of an input, in pixels.
            augment: Use a random window, mirrored half of the time, instead of the centre of the
                image (seven eighths of the shorter side).
        """
        self._files, self._labels = files, labels
        self._size, self._augment = image_size, augment
        self._table = normalise_table(MEAN, STD)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decode one image.

        Raises:
            UserError: The file is no image, or broken; the message names it.
        """
        picture = open_photograph(self._files[index])
        picture = self._vary(picture) if self._augment else self._centre(picture)
        pixels = normalise(np.asarray(picture)[None], self._table)
        return torch.from_numpy(pixels[0]), int(self._labels[index])

    def _vary(self, picture: Image.Image) -> Image.Image:
        window = random_window(*picture.size)
        square = (self._size, self._size)
        picture = picture.resize(square, Image.Resampling.BILINEAR, box=window)
        if random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return picture

    def _centre(self, picture: Image.Image) -> Image.Image:
        shorter = round(self._size * 256 / 224)
        scale = shorter / min(picture.size)
        width, height = (max(shorter, int(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return picture.crop(centre_window(width, height, size=self._size))


def open_photograph(file: str) -> Image.Image:
    """Decode a file into an RGB image.

    Raises:
        UserError: The file is no image, or broken; the message names it.
    """
    try:
        with warnings.catch_warnings():
            # Unusual metadata and palettes, as in some ILSVRC-12 files; the pixels are valid.
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(file) as picture:
                return picture.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:
        # Each decoder raises different exceptions for damaged data.
        raise UserError(
            f"cannot read image {file}: {error or type(error).__name__}; replace or remove the file"
        ) from error
