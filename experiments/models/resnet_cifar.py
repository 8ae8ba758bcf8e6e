"""The residual networks for 32 x 32 images (He et al. 2016, section 4.2)."""

from __future__ import annotations

from torch import Tensor, nn

from experiments.models.blocks import BasicBlock, initialize_resnet, make_stage
from ws_learner.core import UserError

__all__ = ["ResNetCifar", "resnet_cifar"]

_WIDTHS = (16, 32, 64)


class ResNetCifar(nn.Module):
    """Three stages of basic blocks, 16, 32 and 64 channels wide, then one linear layer.

    Shortcuts that change shape are 1x1 convolutions with batch norm (the paper's option B: 2,752
    parameters more than its zero-padded ones).
    """

    def __init__(self, blocks: int, *, num_classes: int = 10) -> None:
        super().__init__()
        small, middle, large = _WIDTHS
        self.conv1 = nn.Conv2d(3, small, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(small)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = make_stage(BasicBlock, small, width=small, blocks=blocks, stride=1)
        self.layer2 = make_stage(BasicBlock, small, width=middle, blocks=blocks, stride=2)
        self.layer3 = make_stage(BasicBlock, middle, width=large, blocks=blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(large, num_classes)
        initialize_resnet(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, 32, 32) to logits (B, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def resnet_cifar(depth: int, *, num_classes: int = 10) -> nn.Module:
    """Build a residual network of `depth` weighted layers, shortcuts not counted.

    Args:
        depth: 6n + 2 for a whole n >= 1, usually 20, 32, 44 or 56.
        num_classes: Width of the output.

    Raises:
        UserError: If no such network has this depth.
    """
    if depth < 8 or depth % 6 != 2:
        raise UserError(
            f"resnet_cifar: depth {depth} is not 6n + 2. Allowed: 8, 14, 20, 26, 32, 38, 44, 50, "
            "56 and so on; usual are 20, 32, 44, 56"
        )
    return ResNetCifar((depth - 2) // 6, num_classes=num_classes)
