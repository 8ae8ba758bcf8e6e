"""What a folder of transformers says about the preparation of images.

The file is read as it is: transformers' own processors import torchvision where it is installed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ws_learner.core import UserError
from ws_learner.data import ImagePreparation

__all__ = ["PROCESSOR_FILES", "find_preparation", "prepare_as", "resize"]

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_WARPED_FROM = 384  # ConvNeXt's processor resizes without a crop from this size on


def find_preparation(folder: Path, *, image_size: int | None, default: int) -> ImagePreparation:
    """The preparation that a folder's files ask for, or ImageNet's if there are none.

    Args:
        folder: Saved with `save_pretrained`.
        image_size: Side of an input instead of the file's; a crop keeps its proportion.
        default: Side of an input if no file says it.

    Raises:
        UserError: A file cannot be read, or asks for something else than square RGB images.
    """
    found = _read(folder)
    if found is None:
        size = image_size or default
        return ImagePreparation(size=size, resized=round(size * 256 / 224))
    file, settings = found
    try:
        preparation = prepare_as(settings, default=default)
    except (TypeError, ValueError) as error:
        raise UserError(f"`model` hf:{folder}: {file.name}: {error}") from error
    return preparation if image_size is None else resize(preparation, image_size)


def _read(folder: Path) -> tuple[Path, Mapping[str, Any]] | None:
    for name in PROCESSOR_FILES:
        file = folder / name
        if not file.is_file():
            continue
        try:
            settings = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"`model` hf:{folder}: {name} cannot be read: {error}") from error
        settings = settings.get("image_processor", settings) if isinstance(settings, dict) else {}
        if isinstance(settings, dict) and settings.keys() & {"size", "image_mean", "do_resize"}:
            return file, settings
    return None


def prepare_as(settings: Mapping[str, Any], *, default: int) -> ImagePreparation:
    """The preparation of an image processor of transformers.

    Args:
        settings: Its file.
        default: Side of an input if it names none.

    Raises:
        ValueError: Inputs are not square RGB images, or are prepared in a way that is not known.
    """
    strange = [name for name in ("do_flip_channel_order", "rescale_offset") if settings.get(name)]
    if strange:
        raise ValueError(f"{strange[0]} is not supported")
    side, squared = _sides(settings.get("size", default), "size")
    crop = side
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
    if kind.startswith("ConvNext"):
        squared = side >= _WARPED_FROM
        side = side if squared else int(side / (settings.get("crop_pct") or 224 / 256))
    else:
        if not squared:
            side = int(side * _enlarged(kind, settings))
        cropped = settings.get("do_center_crop") and settings.get("crop_size")
        if cropped:
            crop, _ = _sides(cropped, "crop_size")
        elif not squared:
            raise ValueError("images keep their own proportions; only square inputs fit")
    mean, std = _scaled(settings)
    resample = settings.get("resample")
    return ImagePreparation(
        size=crop,
        resized=side,
        squared=squared,
        mean=mean,
        std=std,
        resample=2 if resample is None else int(resample),
    )


def _sides(value: Any, name: str) -> tuple[int, bool]:
    """Pixels, and whether both sides get as many; otherwise the shorter one."""
    if isinstance(value, int):
        return value, True
    if isinstance(value, Mapping) and "shortest_edge" in value:
        return int(value["shortest_edge"]), False
    if isinstance(value, Mapping) and value.keys() >= {"height", "width"}:
        if value["height"] == value["width"]:
            return int(value["height"]), True
        raise ValueError(f"{name} is {value['height']} x {value['width']}; only square inputs fit")
    raise ValueError(f"{name} is {value}; only square inputs fit")


def _enlarged(kind: str, settings: Mapping[str, Any]) -> float:
    """Factor on the shorter side that two processors have in their code."""
    if kind.startswith("Levit"):
        return 256 / 224
    return 1 / (settings.get("crop_pct") or 1) if kind.startswith("PoolFormer") else 1.0


def _scaled(
    settings: Mapping[str, Any],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation in units of the full pixel range."""
    factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    scale = 1.0 if math.isclose(255 * factor, 1) else 255 * factor
    if not settings.get("do_normalize", True):
        return (0.0,) * 3, (1 / scale,) * 3
    found = []
    for name, usual in (("image_mean", (0.5,) * 3), ("image_std", (0.5,) * 3)):
        values = settings.get(name) or usual
        values = (values,) * 3 if isinstance(values, int | float) else tuple(values)
        if len(values) != 3:
            raise ValueError(f"{name} has {len(values)} values; only RGB images fit")
        found.append((values[0] / scale, values[1] / scale, values[2] / scale))
    mean, std = found
    if settings.get("include_top"):  # EfficientNet divides once more
        std = (std[0] ** 2 * scale, std[1] ** 2 * scale, std[2] ** 2 * scale)
    return mean, std


def resize(preparation: ImagePreparation, size: int) -> ImagePreparation:
    """The preparation for another size of inputs; a crop keeps its share of the image."""
    resized = max(size, round(preparation.resized * size / preparation.size))
    return dataclasses.replace(preparation, size=size, resized=resized)
