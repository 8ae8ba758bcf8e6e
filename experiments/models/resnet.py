"""The residual networks for ImageNet (He et al. 2016, section 4.1)."""

from __future__ import annotations

from torch import Tensor, nn

from experiments.models.blocks import BasicBlock, Bottleneck, initialize_resnet, make_stage
from ws_learner.core import UserError

__all__ = ["ResNet", "resnet"]

_Block = type[BasicBlock | Bottleneck]

# Depth -> block and number of blocks of each stage (table 1 of the paper).
_STAGES: dict[int, tuple[_Block, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """A 7x7 stem, four stages of residual blocks, then one linear layer.

    Parameters have torchvision's names and shapes, so its checkpoints load.
    """

    def __init__(
        self, block: _Block, blocks: tuple[int, int, int, int], *, num_classes: int = 1000
    ) -> None:
        super().__init__()
        wide = block.expansion
        one, two, three, four = blocks
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = make_stage(block, 64, width=64, blocks=one, stride=1)
        self.layer2 = make_stage(block, 64 * wide, width=128, blocks=two, stride=2)
        self.layer3 = make_stage(block, 128 * wide, width=256, blocks=three, stride=2)
        self.layer4 = make_stage(block, 256 * wide, width=512, blocks=four, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * wide, num_classes)
        initialize_resnet(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W), usually 224 x 224, to logits (B, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def resnet(depth: int, *, num_classes: int = 1000) -> nn.Module:
    """Build ResNet-18, -34 or -50 (the last with the stride on the 3x3 convolutions).

    Raises:
        UserError: If `depth` is none of these.
    """
    if depth not in _STAGES:
        allowed = ", ".join(map(str, _STAGES))
        raise UserError(f"resnet: depth {depth} is not known. Allowed: {allowed}")
    block, blocks = _STAGES[depth]
    return ResNet(block, blocks, num_classes=num_classes)
