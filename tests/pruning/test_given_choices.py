"""Patterns and number formats of layers: from a run's `ratios.csv` and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from envs import LayerRow
from ws_learner.core import LayerChoice, UserError, write_text
from ws_learner.pruning import layer_table, prune_once, read_layer_choices
from ws_learner.report import ratio_table, read_ratios, read_table, to_csv

CHOICES = (
    LayerChoice(pattern="4x1", zeros=36, dtype="int8"),
    LayerChoice(pattern="unstructured", zeros=0, dtype="int8"),
    LayerChoice(pattern="unstructured", zeros=7),
)


def network() -> tuple[nn.Module, tuple[LayerRow, ...]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8, 6), nn.Linear(6, 5))
    return model, layer_table(model, torch.zeros(2, 1, 3, 3))


def zeros_of(choices: tuple[LayerChoice, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([choice.zeros for choice in choices])


def table(latencies: list[float] | None = None) -> pd.DataFrame:
    model, layers = network()
    pairs = list(zip(layers, CHOICES, strict=True))
    patterns = {row.name: choice.pattern for row, choice in pairs}
    prune_once(model, {row.name: choice.zeros for row, choice in pairs}, pattern=patterns)
    return ratio_table(
        layers, zeros_of(CHOICES), model.state_dict(), choices=CHOICES, predicted_ms=latencies
    )


def test_a_run_reads_the_choices_of_another(tmp_path: Path) -> None:
    model, layers = network()
    path = tmp_path / "ratios.csv"
    write_text(path, to_csv(table([0.25, 1.0, 0.1 + 0.2])))
    frame = read_table(path)
    assert frame.columns.tolist()[-3:] == ["pattern", "dtype", "predicted_ms"]
    assert frame["pattern"].tolist() == [choice.pattern for choice in CHOICES]
    assert frame["dtype"].tolist() == ["int8", "int8", "fp32"]
    assert frame["predicted_ms"].tolist() == [0.25, 1.0, 0.1 + 0.2]
    assert to_csv(frame) == path.read_text()
    zeros = read_ratios(path, layers)
    assert read_layer_choices(path, model, layers, zeros=zeros) == CHOICES


def test_tables_without_these_columns_are_as_before(tmp_path: Path) -> None:
    model, layers = network()
    frame = ratio_table(layers, zeros_of(CHOICES) * 0, network()[0].state_dict())
    assert "pattern" not in frame
    for text in (
        to_csv(frame),
        "name,sparsity,dtype\n0,0.5,torch.float32\n",  # another tool's
    ):
        path = tmp_path / "ratios.csv"
        path.write_text(text)
        zeros = read_ratios(path, layers)
        assert read_layer_choices(path, model, layers, zeros=zeros) is None
    zeros = read_ratios({"0": 0.5}, layers)
    assert read_layer_choices({"0": 0.5}, model, layers, zeros=zeros) is None
    (tmp_path / "ratios.json").write_text('{"0": 0.5}')
    assert read_layer_choices(tmp_path / "ratios.json", model, layers, zeros=zeros) is None


def test_a_table_by_hand_may_leave_cells_out(tmp_path: Path) -> None:
    model, layers = network()
    path = tmp_path / "mine.csv"
    path.write_text("layer,prune_ratio,pattern\n0,0.5,tile_pattern_4x1\n3,0.5,\nhead,0,2:4\n")
    zeros = read_ratios(path, layers)
    found = read_layer_choices(path, model, layers, zeros=zeros)
    assert found == (
        LayerChoice(pattern="4x1", zeros=36),
        LayerChoice(pattern="unstructured", zeros=0),
        LayerChoice(pattern="unstructured", zeros=15),
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0,0.5,4y1,fp32", "line 2: `pattern` 4y1: no such pattern"),
        ("0,0.5,mha,fp32", "line 2: `pattern` mha of 0.weight: several layers share"),
        ("0,0.5,4x1,fp16", "line 2: dtype of 0.weight is 'fp16'; it must be fp32 or int8"),
        ("0,0.25,8x9,fp32", "line 2: 18 zeros of 0.weight are no whole units of 8x9"),
    ],
)
def test_wrong_cells_are_refused_with_their_line(tmp_path: Path, line: str, says: str) -> None:
    model, layers = network()
    path = tmp_path / "ratios.csv"
    path.write_text(f"layer,prune_ratio,pattern,dtype\n{line}\n")
    zeros = read_ratios(path, layers)
    with pytest.raises(UserError) as caught:
        read_layer_choices(path, model, layers, zeros=zeros)
    assert f"`ws_ratios` {path}, {says}" in str(caught.value)


def test_columns_of_another_length_are_refused() -> None:
    model, layers = network()
    with pytest.raises(ValueError, match="2 values of pattern for 3 layers"):
        ratio_table(layers, zeros_of(CHOICES) * 0, model.state_dict(), choices=CHOICES[:2])
