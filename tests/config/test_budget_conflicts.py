"""Settings that do not go with budgets are refused, and not ignored."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from experiments.cli.deploy_export import engine_of
from ws_learner import WeightSparseConfig
from ws_learner.core import UserError


@pytest.mark.parametrize(
    "setting",
    [
        {"ws_max_ratios": {"conv": 0.5}},
        {"ws_fixed_ratios": {"conv": 0.5}},
        {"ws_method": "movement"},
        {"ws_init": "scratch"},
        {"ws_ratio_max": 0.5},
    ],
)
def test_whole_units_have_no_ratios_and_no_other_training(setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(UserError, match=f"`{name}`.*whole channels, heads and neurons"):
        WeightSparseConfig(ws_budget="latency=0.5@torch", **setting)
    WeightSparseConfig(ws_budget="latency=0.5@wsr", **setting)


def test_patterns_of_a_frame_are_not_dropped_in_silence() -> None:
    frame = pd.DataFrame({"layer": ["a"], "prune_ratio": [0.5], "pattern": ["2:4"]})
    with pytest.raises(UserError, match=r"has a column pattern; give the path of"):
        WeightSparseConfig(ws_ratios=frame)
    plain = frame.assign(pattern="unstructured", dtype="fp32")
    assert WeightSparseConfig(ws_ratios=plain).ws_ratios == {"a": 0.5}


@pytest.mark.parametrize(
    ("budget", "engine"),
    [
        ("latency=8ms@onnxruntime,bytes=2MB", "onnxruntime"),
        ("latency@onnxruntime=8ms", "onnxruntime"),
        ("latency_ms=8ms@torch", "torch"),
        ("bytes=2MB", None),
        ("", None),
    ],
)
def test_an_export_takes_the_engine_of_every_spelling(budget: str, engine: str | None) -> None:
    assert engine_of(budget) == engine
