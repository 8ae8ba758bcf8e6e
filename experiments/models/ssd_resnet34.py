"""SSD (Liu et al. 2016) on a ResNet-34, in MLPerf's size for COCO: 300 x 300 images."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.cli.dense_weights import load_dense_state
from experiments.models.resnet import resnet
from ws_learner.core import UserError

__all__ = ["SSDResNet34", "ssd_resnet34"]

_CHANNELS = (256, 512, 512, 256, 256, 256)
_MIDDLE = (256, 256, 128, 128, 128)
_BOXES = (4, 6, 6, 6, 4, 4)
_TRUNK = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.")


class SSDResNet34(nn.Module):
    """Three stages of ResNet-34, the third at stride 1, five more blocks, six pairs of heads."""

    def __init__(self, *, num_classes: int = 81) -> None:
        super().__init__()
        whole = resnet(34)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            self.add_module(name, whole.get_submodule(name))
        for name in ("conv1", "downsample.0"):
            convolution = self.get_submodule(f"layer3.0.{name}")
            assert isinstance(convolution, nn.Conv2d)
            convolution.stride = (1, 1)
        self.additional_blocks = nn.ModuleList(
            _block(inputs, middle, outputs, last=index > 2)
            for index, ((inputs, outputs), middle) in enumerate(
                zip(pairwise(_CHANNELS), _MIDDLE, strict=True)
            )
        )
        self.num_classes = num_classes
        self.loc, self.conf = (
            nn.ModuleList(
                nn.Conv2d(channels, boxes * numbers, 3, padding=1)
                for channels, boxes in zip(_CHANNELS, _BOXES, strict=True)
            )
            for numbers in (4, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, 300, 300) to (B, 4 + classes, 8732) offsets, then class scores."""
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            x = self.get_submodule(name)(x)
        maps = [x]
        for block in self.additional_blocks:
            maps.append(block(maps[-1]))
        batch = len(x)
        boxes = [head(m).reshape(batch, 4, -1) for head, m in zip(self.loc, maps, strict=True)]
        scores = [
            head(m).reshape(batch, self.num_classes, -1)
            for head, m in zip(self.conf, maps, strict=True)
        ]
        return torch.cat([torch.cat(boxes, 2), torch.cat(scores, 2)], 1)


def _block(inputs: int, middle: int, outputs: int, *, last: bool) -> nn.Sequential:
    """1x1, then 3x3: of stride 2, in the last two without padding instead."""
    stride, padding = (1, 0) if last else (2, 1)
    return nn.Sequential(
        *(nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU(True)),
        nn.Conv2d(middle, outputs, 3, stride, padding=padding, bias=False),
        *(nn.BatchNorm2d(outputs), nn.ReLU(True)),
    )


def ssd_resnet34(*, num_classes: int = 81, pretrained: Path | None = None) -> nn.Module:
    """Build SSD-ResNet34.

    Args:
        num_classes: Background included.
        pretrained: File of a ResNet-34's weights, such as torchvision's, for the trunk.

    Raises:
        UserError: The file cannot be read or is of another network.
    """
    model = SSDResNet34(num_classes=num_classes)
    if pretrained is not None:
        state = load_dense_state(pretrained, flag="--pretrained ")
        own = {name: t for name, t in model.state_dict().items() if name.startswith(_TRUNK)}
        for name, tensor in own.items():
            if name not in state or state[name].shape != tensor.shape:
                raise UserError(f"--pretrained {pretrained}: no ResNet-34; {name} does not fit")
        model.load_state_dict({name: state[name] for name in own}, strict=False)
    return model
