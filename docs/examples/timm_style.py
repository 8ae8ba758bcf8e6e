"""A network built as timm builds ConvNeXt: depthwise convolution, norm, two linear layers."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from ws_learner import prune


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x):
        y = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1))) * self.gamma
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, width=16, num_classes=3):
        super().__init__()
        self.stem, self.stages = (
            nn.Conv2d(3, width, 4, 4),
            nn.Sequential(Block(width), Block(width)),
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


torch.manual_seed(0)
model = ConvNeXt()  # yours: timm.create_model("convnext_tiny", pretrained=True)
labels = torch.arange(96) % 3
data = TensorDataset(torch.randn(96, 3, 32, 32) + labels.reshape(-1, 1, 1, 1), labels)

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, data, 0.8, epochs=2, config=quick)
