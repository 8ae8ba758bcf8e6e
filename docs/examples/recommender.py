"""A recommender of several inputs: embeddings of user and item, a click as target."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from ws_learner import prune


class Recommender(nn.Module):
    def __init__(self, users=30, items=40, width=8):
        super().__init__()
        self.users, self.items = nn.Embedding(users, width), nn.Embedding(items, width)
        self.mlp = nn.Sequential(nn.Linear(2 * width + 1, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, user, item, age):
        both = torch.cat([self.users(user), self.items(item), age[:, None]], 1)
        return self.mlp(both).squeeze(1)


torch.manual_seed(0)
model = Recommender()
user, item = torch.randint(30, (400,)), torch.randint(40, (400,))
age = torch.randn(400)
clicked = ((user + item) % 2 == 0).float()
data = TensorDataset(user, item, age, clicked)  # the last is the target

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, data, 0.8, epochs=2, config=quick)
