"""Regression: the loss becomes the squared error, the metric the mean absolute error."""

import torch
from torch import nn
from torch.utils.data import TensorDataset, random_split

from ws_learner import prune

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
inputs = torch.randn(400, 8)
prices = 3 * inputs[:, 0] - 2 * inputs[:, 1].square() + 0.1 * torch.randn(400)
train, validation, test = random_split(TensorDataset(inputs, prices), [0.6, 0.2, 0.2])

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, (train, validation, test), 0.8, epochs=10, config=quick)
