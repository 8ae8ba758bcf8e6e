"""A residual network with torchvision's structure and names, and its way to load images."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ws_learner import prune


class BasicBlock(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        short = nn.Conv2d(before, after, 1, stride, bias=False)
        self.downsample = nn.Sequential(short, nn.BatchNorm2d(after))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample(x)).relu()


class ResNet(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.layer1, self.layer2 = BasicBlock(8, 8, 1), BasicBlock(8, 16, 2)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        y = self.layer2(self.layer1(self.bn1(self.conv1(x)).relu()))
        return self.fc(y.mean((2, 3)))


torch.manual_seed(0)
model = ResNet()  # yours: torchvision.models.resnet50(weights="DEFAULT")
labels = torch.arange(120) % 3
images = torch.randn(120, 3, 12, 12) + labels.reshape(-1, 1, 1, 1)
train = DataLoader(TensorDataset(images[:84], labels[:84]), batch_size=16, shuffle=True)
validation = DataLoader(TensorDataset(images[84:], labels[84:]), batch_size=16)

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, (train, validation), 0.8, epochs=2, config=quick)
