"""The table of what was removed, and the folder that a run leaves."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import nn

from experiments.benchmarks.movement_proof import PLAN, table
from tests.support.tiny_transformers import FusedBlock
from ws_learner.export.cropped_files import load_cropped
from ws_learner.files import write_json
from ws_learner.report.structured import COLUMNS, crop_run


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


def test_the_proofs_table_has_a_row_for_each_finished_run(tmp_path: Path) -> None:
    first, second = PLAN[0], next(run for run in PLAN if run.pattern == "units")
    facts = {"achieved_prune_ratio": 0.9, "dense_accuracy": 0.94, "sparse_accuracy": 0.9}
    more = {"parameters": 2000, "cropped_parameters": 1000}
    more |= {"dense_ms_batch_1": 2.0, "cropped_ms_batch_1": 1.0}
    more |= {"dense_ms_batch_32": 20.0, "cropped_ms_batch_32": 10.0}
    write_json(tmp_path / first.name / "summary.json", facts | {"train_seconds": 3.0})
    write_json(tmp_path / second.name / "summary.json", facts | more | {"train_seconds": 4.0})
    lines = table(tmp_path).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "2,000 -> 1,000 | 2.0 -> 1.0 | 20.0 -> 10.0" in lines[3]
    words = first.words(epochs=5, rate=2e-4)
    assert words[words.index("--ws_prune_ratio") + 1] == "0.9"
