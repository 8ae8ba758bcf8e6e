"""Image transforms by their names in LPOT's YAML, applied in the file's order."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.data.image_decoding import centre_window, open_photograph, random_window
from ws_learner.data.normalization import normalise_table

__all__ = ["Named", "Transformed", "steady", "transform"]

Named = Sequence[tuple[str, Mapping[str, Any]]]
"""(name, settings) in order, such as ("Resize", {"size": 256})."""
ImageTransform = Callable[[Image.Image], Image.Image]

_AS_TENSOR = ("ToTensor", "Normalize")


def transform(steps: Named) -> Callable[[Image.Image], Tensor]:
    """Build the transform of an RGB image to float32 (3, H, W) from its steps.

    Values lie in [0, 1], or are normalised if there is a `Normalize`. Random steps draw from
    Python's global generator.

    Raises:
        UserError: A step is unknown, or a step on images follows one on tensors.
    """
    on_pictures = [(name, settings) for name, settings in steps if name not in _AS_TENSOR]
    names = [name for name, _ in steps]
    if names[: len(on_pictures)] != [name for name, _ in on_pictures]:
        raise UserError(
            f"transform: {', '.join(names)}: ToTensor and Normalize must come last, in this order"
        )
    chain = [_step(name, settings) for name, settings in on_pictures]
    last = dict(steps).get("Normalize")
    mean, std = (last["mean"], last["std"]) if last else ((0.0,) * 3, (1.0,) * 3)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UserError(f"Normalize: mean {mean}, std {std}: give three numbers each, std above 0")
    table = normalise_table(mean, std)

    def apply(picture: Image.Image) -> Tensor:
        for step in chain:
            picture = step(picture)
        pixels = np.asarray(picture)
        planes = [table[channel][pixels[..., channel]] for channel in range(3)]
        return torch.from_numpy(np.stack(planes))

    return apply


def steady(steps: Named) -> list[tuple[str, Mapping[str, Any]]]:
    """Replace random steps by deterministic ones, for scoring.

    A random resized crop becomes the centre crop of seven eighths of the shorter side, as usual for
    ImageNet. A random crop becomes the centre crop of its size. Flips are removed.
    """
    calm: list[tuple[str, Mapping[str, Any]]] = []
    for name, settings in steps:
        if name == "RandomResizedCrop":
            size = settings["size"]
            calm += [("Resize", {"size": round(size * 256 / 224)}), ("CenterCrop", {"size": size})]
        elif name == "RandomCrop":
            calm.append(("CenterCrop", {"size": settings["size"]}))
        elif name != "RandomHorizontalFlip":
            calm.append((name, settings))
    return calm


class Transformed:
    """Map-style data set of transformed images: (float32 (3, H, W), class number)."""

    def __init__(
        self,
        images: Sequence[str] | npt.NDArray[np.uint8],  # paths, or (N, H, W, 3)
        labels: npt.NDArray[np.int64],  # (N,)
        *,
        steps: Named,
    ) -> None:
        """Store paths or pixels; files are opened when read."""
        self._images, self._labels = images, labels
        self._steps = list(steps)
        self._apply = transform(self._steps)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decode and transform one image.

        Raises:
            UserError: The file is no image, or broken; the message names it.
        """
        image = self._images[index]
        picture = open_photograph(image) if isinstance(image, str) else Image.fromarray(image)
        return self._apply(picture), int(self._labels[index])

    def __getstate__(self) -> dict[str, Any]:
        # The transform consists of closures, which cannot be pickled for worker processes.
        return {key: value for key, value in self.__dict__.items() if key != "_apply"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._apply = transform(self._steps)


def _step(name: str, settings: Mapping[str, Any]) -> ImageTransform:
    size = int(settings.get("size", 0))
    if name == "Resize":
        return lambda picture: _resize(picture, size)
    if name == "CenterCrop":
        return lambda picture: _centre(picture, size)
    if name == "RandomCrop":
        padding = int(settings.get("padding", 0))
        return lambda picture: _random_crop(picture, size, padding=padding)
    if name == "RandomResizedCrop":
        return lambda picture: picture.resize(
            (size, size), Image.Resampling.BILINEAR, box=random_window(*picture.size)
        )
    if name == "RandomHorizontalFlip":
        return _flip
    raise UserError(f"transform: {name} is unknown")


def _resize(picture: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to `size` and the longer one in proportion, rounded down."""
    width, height = picture.size
    shorter = min(width, height)
    square = (width * size // shorter, height * size // shorter)
    return picture.resize(square, Image.Resampling.BILINEAR)


def _centre(picture: Image.Image, size: int) -> Image.Image:
    """Crop the centre; a smaller image is padded with black."""
    return _padded(picture, size).crop(centre_window(*_padded(picture, size).size, size=size))


def _random_crop(picture: Image.Image, size: int, *, padding: int) -> Image.Image:
    picture = _padded(ImageOps.expand(picture, padding) if padding else picture, size)
    left = random.randint(0, picture.size[0] - size)
    top = random.randint(0, picture.size[1] - size)
    return picture.crop((left, top, left + size, top + size))


def _padded(picture: Image.Image, size: int) -> Image.Image:
    across, down = (max(0, size - side) for side in picture.size)
    if not across and not down:
        return picture
    border = (across // 2, down // 2, across - across // 2, down - down // 2)
    return ImageOps.expand(picture, border)


def _flip(picture: Image.Image) -> Image.Image:
    if random.random() < 0.5:
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture
