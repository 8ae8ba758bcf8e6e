"""Shared parts of the networks: residual blocks (He et al. 2016), widths, initial weights."""

from __future__ import annotations

from torch import Tensor, nn

from ws_learner.core import UserError

__all__ = ["BasicBlock", "Bottleneck", "initialize_resnet", "make_stage", "scale_channels"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; the sum is rectified (post-activation)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, width, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        result: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return result


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; the 3x3 carries the stride.

    He et al. put the stride on the first 1x1. On the 3x3 ("v1.5") it costs a little more and is
    about half a point more accurate; public checkpoints are trained so.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4 width, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        result: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return result


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """Project by a strided 1x1 convolution where the shape changes; else pass through."""
    if stride == 1 and inputs == outputs:
        return None
    convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def make_stage(
    block: type[BasicBlock | Bottleneck], inputs: int, *, width: int, blocks: int, stride: int
) -> nn.Sequential:
    """Stack `blocks` blocks of one width; the first takes `inputs` channels and the stride."""
    outputs = width * block.expansion
    first = block(inputs, width, stride=stride)
    return nn.Sequential(first, *(block(outputs, width) for _ in range(blocks - 1)))


def scale_channels(channels: int, width: float) -> int:
    """Multiply a channel count by `width` and round to a multiple of eight, at least eight.

    Rounds half up, then one multiple further if more than a tenth would be lost, as the public
    MobileNets do, so that their checkpoints of other widths fit.

    Raises:
        UserError: If `width` is not a positive, finite number.
    """
    if not 0 < width < float("inf"):
        raise UserError(f"width: {width} is not a channel multiplier. Allowed: more than 0, as 0.5")
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def initialize_resnet(model: nn.Module) -> None:
    """Draw all convolutions from Kaiming's normal distribution (fan out), in module order.

    Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2. Batch-norm and linear
    layers keep PyTorch's default.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
