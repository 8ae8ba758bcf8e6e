"""Small folders of images, and tiny networks of transformers in folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["CLASSES", "save_convnext", "save_resnet", "save_vit", "stripes"]

CLASSES = ("flat", "lying", "standing")
_PREPARED = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "resample": 2}


def stripes(
    root: Path, *, parts: dict[str, int] | None = None, names: tuple[str, ...] = CLASSES
) -> Path:
    """Images of three kinds: plain, horizontal and vertical stripes.

    Args:
        root: Receives the class folders.
        parts: Folder -> images of each class; None puts 12 of each class directly in `root`.
        names: Names of the class folders.
    """
    rng = np.random.default_rng(0)
    for part, count in (parts or {"": 12}).items():
        for number, name in enumerate(names):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(_stripe(number % 3, rng)).save(folder / f"{index}.png")
    return root


def _stripe(kind: int, rng: np.random.Generator) -> Any:
    pixels = rng.integers(100, 140, (20, 24, 3))
    step = int(rng.integers(0, 4))
    if kind == 1:
        pixels[step::4] += 100
    elif kind == 2:
        pixels[:, step::4] += 100
    return pixels.astype(np.uint8)


def _save(model: Any, folder: Path, **prepared: Any) -> Path:
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPARED | prepared))
    return folder


def _named(names: tuple[str, ...] | None) -> dict[str, Any]:
    names = names or tuple(f"LABEL_{place}" for place in range(3))
    return {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}


def save_vit(folder: Path, names: tuple[str, ...] | None = CLASSES) -> Path:
    """A vision transformer of two layers for images of 16 pixels; `names` are its classes."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        **_named(names),
    )
    size = {"height": 16, "width": 16}
    return _save(ViTForImageClassification(config), folder, size=size)


def save_resnet(folder: Path, names: tuple[str, ...] | None = CLASSES) -> Path:
    """A residual network of two stages."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        **_named(names),
    )
    size = {"shortest_edge": 16}
    return _save(
        ResNetForImageClassification(config),
        folder,
        image_processor_type="ConvNextImageProcessor",
        size=size,
        crop_pct=0.875,
    )


def save_convnext(folder: Path, names: tuple[str, ...] | None = CLASSES) -> Path:
    """A ConvNeXt of two stages."""
    import torch
    from transformers import ConvNextConfig, ConvNextForImageClassification

    torch.manual_seed(0)
    config = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, **_named(names))
    size = {"shortest_edge": 16}
    return _save(
        ConvNextForImageClassification(config),
        folder,
        image_processor_type="ConvNextImageProcessor",
        size=size,
        crop_pct=0.875,
    )
