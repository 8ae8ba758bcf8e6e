"""Networks of timm, by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import nn

from experiments.brought.image_processor import resize
from experiments.brought.network import BroughtNetwork, HeadChoice
from experiments.experiment import seeded
from ws_learner.core import UserError, suggest, value_digest
from ws_learner.data import ImagePreparation

__all__ = ["open_timm"]


def open_timm(
    name: str,
    classes: Sequence[str],
    *,
    head: HeadChoice,
    pretrained: bool,
    image_size: int | None,
    seed: int,
) -> BroughtNetwork:
    """Make a network of timm.

    Args:
        name: In timm, such as `resnet18` or `vit_tiny_patch16_224.augreg_in21k`.
        classes: Names of the data's classes.
        head: `keep` and `auto` keep a pretrained head of as many classes.
        pretrained: Load timm's weights, which it downloads once.
        image_size: Side of an input instead of the network's own.
        seed: Of fresh weights.

    Raises:
        UserError: timm is missing or has no such network, or its weights cannot be had.
    """
    source = f"timm:{name}"
    timm = _import_timm(source)
    if not timm.is_model(name):
        raise UserError(f"`model` {source}: no such network; {suggest(name, timm.list_models())}")

    own = int((timm.get_pretrained_cfg(name) or _NO_CONFIG).num_classes or 0)
    keeps = pretrained and head != "new" and own == len(classes)
    if head == "keep" and not keeps:
        raise UserError(
            f"`head` keep: {source} has a head for {own} classes with `pretrained`, the data have "
            f"{len(classes)} classes; leave it out to get a new head"
        )
    model = seeded(
        lambda: _make(timm, name, len(classes), pretrained=pretrained, image_size=image_size), seed
    )
    config = model.pretrained_cfg
    preparation = _preparation(config, image_size=image_size)
    return BroughtNetwork(
        name=name.replace(".", "_"),
        model=model,
        trained=keeps,
        origin=f"{source}, {_origin(keeps, pretrained=pretrained, classes=len(classes))}",
        content=f"{source} {value_digest(model.state_dict())}" if pretrained else source,
        preparation=preparation,
        order=tuple(range(len(classes))),
    )


def _origin(keeps: bool, *, pretrained: bool, classes: int) -> str:
    if keeps:
        return "with its head, classes in the order of the folders"
    start = "pretrained" if pretrained else "with fresh weights"
    return f"{start}, a new head for {classes} classes"


class _NoConfig:
    num_classes = 0


_NO_CONFIG: Any = _NoConfig()


def _import_timm(source: str) -> ModuleType:
    index = " --extra-index-url https://download.pytorch.org/whl/cpu"
    line = "pip install timm" + (index if torch.version.cuda is None else "")
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name not in ("timm", "torchvision"):
            raise
        raise UserError(f"`model` {source}: needs {error.name}: {line}") from error
    except Exception as error:  # timm's torchvision is built for another torch, as a rule
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"`model` {source}: timm cannot be imported ({reason}); its torchvision may be built "
            f"for another torch than {torch.__version__}: pip uninstall torchvision, then {line}"
        ) from error
    found: ModuleType = timm
    return found


def _make(
    timm: ModuleType, name: str, classes: int, *, pretrained: bool, image_size: int | None
) -> nn.Module:
    settings: dict[str, Any] = {"pretrained": pretrained, "num_classes": classes}
    if image_size is not None:
        settings["img_size"] = image_size
    try:
        try:
            model: nn.Module = timm.create_model(name, **settings)
        except TypeError:
            settings.pop("img_size", None)  # convolutional networks take any size and no argument
            model = timm.create_model(name, **settings)
    except Exception as error:  # a download, as a rule
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"`model` timm:{name}: cannot be made: {reason}") from error
    return model


def _preparation(config: Any, *, image_size: int | None) -> ImagePreparation:
    size = int(config["input_size"][-1])
    squared = config.get("crop_mode") == "squash"
    resized = math.floor(size / config.get("crop_pct", 0.875))
    modes = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
    preparation = ImagePreparation(
        size=size,
        resized=resized,
        squared=squared,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resample=modes.get(config.get("interpolation", "bilinear"), Image.Resampling.BILINEAR),
    )
    return preparation if image_size is None else resize(preparation, image_size)
