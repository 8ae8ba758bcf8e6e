"""MobileNet v1 (Howard et al. 2017): depthwise separable convolutions in a plain chain."""

from __future__ import annotations

from torch import Tensor, nn

from experiments.models.blocks import initialize_resnet, scale_channels

__all__ = ["MobileNetV1", "mobilenet_v1"]

# Channels, number of blocks and first stride of each stage (table 1 of the paper).
_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))


class SeparableConv(nn.Module):
    """A 3x3 depthwise convolution, then a 1x1; each with batch norm and ReLU6."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        x = self.act(self.bn1(self.conv_dw(x)))
        result: Tensor = self.act(self.bn2(self.conv_pw(x)))
        return result


class MobileNetV1(nn.Module):
    """A 3x3 stem, thirteen separable convolutions in five stages, then one linear layer.

    ReLU6 stands where the paper has ReLU, as in its authors' released networks. Parameters have
    timm's names (`mobilenetv1_100`), so its checkpoints load.
    """

    def __init__(self, *, num_classes: int = 1000, width: float = 1.0) -> None:
        super().__init__()
        channels = scale_channels(32, width)
        self.conv_stem = nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU6(inplace=True)
        self.blocks = nn.Sequential()
        for full_width, number, stride in _STAGES:
            outputs = scale_channels(full_width, width)
            first = SeparableConv(channels, outputs, stride=stride)
            rest = (SeparableConv(outputs, outputs) for _ in range(number - 1))
            self.blocks.append(nn.Sequential(first, *rest))
            channels = outputs
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        initialize_resnet(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W), usually 224 x 224, to logits (B, num_classes)."""
        x = self.blocks(self.act(self.bn1(self.conv_stem(x))))
        logits: Tensor = self.classifier(self.avgpool(x).flatten(1))
        return logits


def mobilenet_v1(*, num_classes: int = 1000, width: float = 1.0) -> nn.Module:
    """Build MobileNet v1.

    Args:
        num_classes: Width of the output.
        width: Multiplies every channel count but the output's; the paper has 1, 0.75, 0.5, 0.25.

    Raises:
        UserError: If `width` is not positive.
    """
    return MobileNetV1(num_classes=num_classes, width=width)
