"""What stays dense is listed with its reason, and with the zeros nothing is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import nn

from ws_learner.config import WeightSparseConfig
from ws_learner.pruning import dense_weights, table_for_settings


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.position = nn.Parameter(torch.zeros(5, 8))
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 12)
        self.out.weight = self.embed.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(words) + self.position[: words.shape[1]]
        return self.out(self.norm(self.second(self.first(hidden).relu())))


def listed(config: WeightSparseConfig, model: nn.Module) -> pd.DataFrame:
    layers = table_for_settings(model, torch.zeros(2, 5, dtype=torch.long), config)
    zeros = np.array([0 if row.exempt else row.weights // 2 for row in layers])
    frame = dense_weights(model, layers, zeros, config)
    pruned = sum(row.weights for row, count in zip(layers, zeros, strict=True) if count)
    assert pruned + frame["weights"].sum() == sum(p.numel() for p in model.parameters())
    return frame.set_index("layer")["reason"]


def test_every_reason() -> None:
    why = listed(WeightSparseConfig(ws_prune_ratio=0.5, ws_exempt=("first",)), Net())
    assert why["first.weight"] == "named in ws_exempt"
    assert "shared with the embedding embed.weight" in why.filter(regex="embed|out").iloc[0]
    assert "of no kind that is pruned" in why["position"]
    assert why.index[-1] == "biases, normalisation and other vectors"
    assert "second.weight" not in why


def test_layers_that_settings_leave_out() -> None:
    config = WeightSparseConfig(ws_prune_ratio=0.5, ws_include=("first",))
    assert listed(config, Net())["second.weight"] == "not named in ws_include"
    config = WeightSparseConfig(ws_prune_ratio=0.5, ws_exclude=("first",))
    assert listed(config, Net())["first.weight"] == "left out with ws_exclude"


def test_frozen_layers() -> None:
    model = Net()
    model.first.weight.requires_grad_(False)
    why = listed(WeightSparseConfig(ws_prune_ratio=0.5), model)
    assert why["first.weight"] == "frozen (requires_grad is False)"
    assert isinstance(model.second.weight, torch.Tensor)
