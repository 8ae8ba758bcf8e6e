"""Segmentation with a U-Net: a class for each pixel, targets (B, H, W)."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from ws_learner import prune


class UNet(nn.Module):
    def __init__(self, width=8, classes=2):
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU())
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.mix = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images):
        skip = self.down1(images)
        return self.head(self.mix(torch.cat([skip, self.up(self.down2(skip))], 1)))


torch.manual_seed(0)
model = UNet()
images = torch.randn(80, 1, 16, 16)
masks = (nn.functional.avg_pool2d(images, 3, 1, 1)[:, 0] > 0).long()
data = TensorDataset(images, masks)

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, data, 0.8, epochs=2, config=quick)
