"""A small convolutional network on printed digits, drawn on the spot: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment
    from ws_learner.data import ArraySplit

SIDE, CLASSES = 16, 10
SIZES = {"train": 2000, "search": 400, "select": 400, "test": 1000}


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    width: int = 8
    """Channels of the first layer; the second has twice as many."""

    def __post_init__(self) -> None:
        check_settings(self)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from torch import nn

    from experiments.experiment import Experiment, classification, seeded
    from ws_learner.config import Recipe
    from ws_learner.data import DataSplits

    def network() -> nn.Module:
        wide = 2 * options.width
        return nn.Sequential(
            nn.Conv2d(1, options.width, 3, padding=1, bias=False),
            nn.BatchNorm2d(options.width),
            nn.ReLU(),
            nn.Conv2d(options.width, wide, 3, padding=1, stride=2, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(wide * SIDE * SIDE // 4, CLASSES),
        )

    dense = Recipe(nb_epochs=6, batch_size=50, lrn_schedule="one-cycle", warmup=0.2)
    sparse = Recipe(nb_epochs=6, batch_size=50, lrn_rate=0.03)
    loss, metric = classification(dense)
    splits = {part: draw_digits(size, seed=i) for i, (part, size) in enumerate(SIZES.items())}
    return Experiment(
        name="cnn_at_digits",
        model=seeded(network, seed),
        data=DataSplits(
            name="printed digits",
            digest="printed-digits-1",
            num_classes=CLASSES,
            outputs="classes",
            input_shape=(1, SIDE, SIDE),
            pad_id=None,
            **splits,
        ),
        loss=loss,
        metric=metric,
        dense_recipe=dense,
        sparse_recipe=sparse,
    )


def draw_digits(count: int, *, seed: int) -> ArraySplit:
    """Draw `count` digits (1, 16, 16) in Pillow's own font: rotated, shifted, blurred, noisy."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    from ws_learner.data import ArraySplit

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = np.empty((count, 1, SIDE, SIDE), np.uint8)
    fonts = {size: ImageFont.load_default(size) for size in (22, 26, 30)}
    for image, label in zip(images, labels, strict=True):
        canvas = Image.new("L", (2 * SIDE, 2 * SIDE))
        left, top = int(rng.integers(4, 12)), int(rng.integers(-4, 4))
        font = fonts[int(rng.choice([22, 26, 30]))]
        ImageDraw.Draw(canvas).text((left, top), str(label), fill=255, font=font)
        turned = canvas.rotate(rng.uniform(-25, 25), Image.Resampling.BILINEAR)
        clean = np.asarray(turned.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
        image[0] = (0.7 * clean + rng.normal(30, 30, clean.shape)).clip(0, 255)
    return ArraySplit(
        images, labels, mean=(0.25,), std=(0.25,), channels_first=True, padding=1, flip=False
    )
