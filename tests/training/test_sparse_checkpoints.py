"""Whole runs from a sparse network: zeros stay, in what is left out of the pruning, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ws_learner import (
    DataSplits,
    Recipe,
    Result,
    UserError,
    WeightSparseConfig,
    WeightSparseLearner,
    split_dataset,
    top_k_accuracy,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    for place in (0, 2, 4):
        weight = net[place].weight.data
        weight.view(-1)[weight.abs().flatten().argsort()[: weight.numel() // 2]] = 0
    return net


def data() -> DataSplits:
    inputs = torch.randn(160, 8, generator=torch.Generator().manual_seed(0))
    return split_dataset(TensorDataset(inputs, (inputs.sum(1) > 0).long()), num_classes=2)


def run(folder: Path, **config: Any) -> Result:
    config = {"ws_prune_ratio": 0.75, "ws_prune_ratio_prtl": "uniform"} | config
    return WeightSparseLearner(
        network(),
        data(),
        loss=nn.functional.cross_entropy,
        metric=top_k_accuracy,
        recipe=Recipe(nb_epochs=2, batch_size=16),
        config=WeightSparseConfig(**config),
        run_dir=folder,
    ).fit()


@pytest.mark.parametrize("left_out", ["ws_exclude", "ws_exempt"])
def test_zeros_of_layers_left_out_stay_outside_the_target(left_out: str, tmp_path: Path) -> None:
    result = run(tmp_path / "run", **{left_out: ("4",), "ws_prune_ratio": 0.7})
    for place in (0, 2, 4):
        name = f"{place}.weight"
        assert bool((result.model.get_parameter(name)[network()[place].weight == 0] == 0).all())
    listed = 256 if left_out == "ws_exclude" else 272
    assert sum(int((result.model[p].weight == 0).sum()) for p in (0, 2)) == round(0.7 * listed)
    assert int((result.model[4].weight == 0).sum()) == 8


def test_a_profile_below_the_zeros_of_one_layer_is_refused(tmp_path: Path) -> None:
    given = {"ws_prune_ratio_prtl": "given", "ws_ratios": {"0": 0.2, "2": 0.9, "4": 0.9}}
    with pytest.raises(UserError, match=r"`ws_ratios`: 26 zeros for 0\.weight, .* 64 to 128"):
        run(tmp_path / "run", **given)
    with pytest.raises(UserError, match=r"`ws_max_ratios` 0=0\.4: .* 64 zeros of 128 already"):
        run(tmp_path / "run", ws_max_ratios={"0": 0.4})


def test_from_scratch_nothing_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(tmp_path / "run", ws_init="scratch", ws_prune_ratio=0.25)
    assert result.summary["achieved_prune_ratio"] == pytest.approx(0.25)
    assert "already" not in capsys.readouterr().err
    with pytest.raises(UserError, match="`ws_keep_zeros` True: `ws_init` scratch"):
        WeightSparseConfig(ws_init="scratch", ws_keep_zeros=True)
