"""ResNeXt-101 32x8d (Xie et al. 2017, section 3; the wider one of public checkpoints)."""

from __future__ import annotations

from torch import Tensor, nn

from experiments.models.blocks import initialize_resnet

__all__ = ["ResNeXt", "resnext101"]

_GROUPS, _GROUP_WIDTH, _EXPANSION = 32, 8, 4
_BLOCKS = (3, 4, 23, 3)


class _Bottleneck(nn.Module):
    """A bottleneck with a grouped 3x3 convolution."""

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        inner, outputs = width * _GROUP_WIDTH * _GROUPS // 64, width * _EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=_GROUPS, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4 width, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        result: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return result


class ResNeXt(nn.Module):
    """Parameters have torchvision's names and shapes, so its checkpoints load."""

    def __init__(self, *, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for index, blocks in enumerate(_BLOCKS):
            width, stages = 64 * 2**index, []
            for number in range(blocks):
                stride = 2 if index and not number else 1
                stages.append(_Bottleneck(inputs, width, stride=stride))
                inputs = width * _EXPANSION
            self.add_module(f"layer{index + 1}", nn.Sequential(*stages))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(inputs, num_classes)
        initialize_resnet(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for index in range(len(_BLOCKS)):
            x = self.get_submodule(f"layer{index + 1}")(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def resnext101(*, num_classes: int = 1000) -> nn.Module:
    """Build ResNeXt-101 32x8d."""
    return ResNeXt(num_classes=num_classes)
