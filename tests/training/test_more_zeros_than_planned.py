"""A saved network with more zeros than its plan is said: they were there before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ws_learner.config.learner import WeightSparseConfig
from ws_learner.pruning.layers.table import layer_table
from ws_learner.training.outcome import verified_table


@pytest.mark.parametrize("extra", [0, 3])
def test_zeros_that_were_not_pruned_are_said(
    extra: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[0, : 4 + extra] = 0
        model[1].weight[0, :2] = 0
    layers = layer_table(model, torch.randn(2, 8))
    capsys.readouterr()
    frame = verified_table(
        layers, np.array([4, 2]), state=model.state_dict(), config=WeightSparseConfig()
    )
    assert list(frame["achieved"]) == [(4 + extra) / 32, 2 / 8]
    said = capsys.readouterr().err
    wanted = f"{6 + extra} zeros, {extra} more than planned, in 0.weight:"
    assert wanted in said if extra else not said
