"""The table of what was removed, and the folder that a run leaves."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import nn

from tests.support.tiny_transformers import FusedBlock
from ws_learner.deploy.shrinking.crop_report import COLUMNS, crop_run
from ws_learner.deploy.shrinking.cropped_file import load_cropped


def masked() -> nn.Module:
    torch.manual_seed(0)
    model = FusedBlock(inner=30).eval()
    with torch.no_grad():
        model.attn.proj.weight[:, 6:18] = 0  # heads 1 and 2 of 4
        model.mlp.fc2.weight[:, :5] = 0
    return model


def test_a_run_leaves_table_network_and_speed(tmp_path: Path) -> None:
    model, inputs = masked(), torch.randn(32, 5, 24)
    facts = crop_run(model, inputs, tmp_path)
    table = pd.read_csv(tmp_path / "structured_sparsity.csv").set_index("torch_module")
    assert ("torch_module", *table.columns[:2]) == (COLUMNS[2], *COLUMNS[:2])
    assert table.loc["attn.qkv", "weight_shape"] == "(72, 24)"
    assert table.loc["attn.qkv", "pruned_weight_shape"] == "(36, 24)"
    assert table.loc["attn.qkv", "pruned_bias_shape"] == "(36,)"
    assert table.loc["attn.proj", "pruned_weight_shape"] == "(24, 12)"
    assert table.loc["attn.proj", "head_or_channel_id_to_keep"] == "[0, 3]"
    assert table.loc["mlp.fc1", "head_or_channel_id_to_keep"] == "[25 items]"
    assert table.loc["mlp.fc2", "pruned_bias_shape"] == "(24,)"
    assert facts["units_removed"] == 7
    assert facts["parameters"] - facts["cropped_parameters"] == 36 * 25 + 12 * 24 + 5 * 49
    assert facts["cropped_ms_batch_32"] > 0
    again = load_cropped(tmp_path / "cropped", FusedBlock(inner=30))
    assert torch.allclose(again(inputs), model(inputs), atol=1e-5)
