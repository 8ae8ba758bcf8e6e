"""MobileNet v2 (Sandler et al. 2018): inverted residuals with linear bottlenecks."""

from __future__ import annotations

from torch import Tensor, nn

from experiments.models.blocks import initialize_resnet, scale_channels

__all__ = ["MobileNetV2", "mobilenet_v2"]

# Expansion, channels, number of blocks and first stride of each stage (table 2 of the paper).
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_norm(
    inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size up to its stride, batch norm and ReLU6."""
    convolution = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter depthwise by 3x3, narrow by a linear 1x1; add the input if it fits."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = [] if expansion == 1 else [_conv_norm(inputs, hidden)]
        self.conv = nn.Sequential(
            *widen,
            _conv_norm(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y: Tensor = self.conv(x)
        return x + y if self.adds_input else y


class MobileNetV2(nn.Module):
    """A 3x3 stem, seventeen inverted residuals, a 1x1 convolution, then dropout and a linear layer.

    Parameters have torchvision's names and shapes, so its checkpoints load.
    """

    def __init__(self, *, num_classes: int = 1000, width: float = 1.0) -> None:
        super().__init__()
        channels = scale_channels(32, width)
        features: list[nn.Module] = [_conv_norm(3, channels, kernel=3, stride=2)]
        for expansion, full_width, number, first_stride in _STAGES:
            outputs = scale_channels(full_width, width)
            for index in range(number):
                stride = first_stride if index == 0 else 1
                features.append(
                    InvertedResidual(channels, outputs, stride=stride, expansion=expansion)
                )
                channels = outputs
        # The last convolution never becomes narrower than 1280 (section 6.1 of the paper).
        last = scale_channels(1280, max(1.0, width))
        features.append(_conv_norm(channels, last))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        output = nn.Linear(last, num_classes)
        self.classifier = nn.Sequential(nn.Dropout(0.2), output)
        initialize_resnet(self)
        nn.init.normal_(output.weight, std=0.01)
        nn.init.zeros_(output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W), usually 224 x 224, to logits (B, num_classes)."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


def mobilenet_v2(*, num_classes: int = 1000, width: float = 1.0) -> nn.Module:
    """Build MobileNet v2.

    Args:
        num_classes: Width of the output.
        width: Multiplies the channel counts; the paper has 1.4, 1, 0.75, 0.5, 0.35.

    Raises:
        UserError: If `width` is not positive.
    """
    return MobileNetV2(num_classes=num_classes, width=width)
