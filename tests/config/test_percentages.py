"""A percentage where a share is meant: the error asks whether the share was meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.cli.flags import parse
from ws_learner import prune
from ws_learner.config import Recipe, WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.pruning import GradualConfig, Sparsifier


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("--prune_ratio", "75"), "--prune_ratio 75: .*did you mean 0.75"),
        (("--budget", "latency=8"), "did you mean latency=8ms"),
        (("--budget", "latency=8@wsr"), "did you mean latency=8ms@wsr"),
        (("--ws_ratio_max", "99"), "did you mean 0.99"),
        (("--goals", "50:98.5"), "did you mean 0.5:0.985"),
        (("--budget", "macs=30"), "macs=30: .*did you mean 0.3"),
        (("--budget", "bytes=30"), "bytes=30: .*did you mean 0.3"),
        (("--label_smoothing", "10"), "did you mean 0.1"),
        (("--ratios", "conv1=90"), "did you mean 0.9"),
    ],
)
def test_flags(words: Sequence[str], asked: str) -> None:
    with pytest.raises(UserError, match=rf"{asked}\?"):
        parse(words)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--prune_ratio 75%", "ws_prune_ratio", 0.75),
        ("--ws_prune_ratio=62.5%", "ws_prune_ratio", 0.625),
        ("--ws_ratio_max 99%", "ws_ratio_max", 0.99),
        ("--max_ratios conv1=90%", "ws_max_ratios", {"conv1": 0.9}),
    ],
)
def test_percentages_are_shares(words: str, name: str, value: object, tmp_path: Path) -> None:
    assert getattr(parse(words.split()).ws, name) == value
    flag, said = re.split("[ =]", words.removeprefix("--"), maxsplit=1)
    (tmp_path / "conf.yaml").write_text(f"{flag}: {said}\n")
    assert getattr(parse(["--config", str(tmp_path / "conf.yaml")]).ws, name) == value


@pytest.mark.parametrize("given", ["175%", "-1%", "x%", "nan%"])
def test_percentages_out_of_range_are_shown_as_typed(given: str) -> None:
    with pytest.raises(UserError, match=f"--prune_ratio {given}: must be a share from 0 to 1"):
        parse([f"--prune_ratio={given}"])


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"ws_prune_ratio": 75}, "0.75"),
        ({"ws_prune_ratio": "75%"}, "0.75"),
        ({"ws_max_ratios": {"conv1": 90}}, "0.9"),
        ({"ws_budget": "params=20"}, "0.2"),
    ],
)
def test_settings(settings: Mapping[str, Any], asked: str) -> None:
    with pytest.raises(UserError, match=rf"did you mean {asked}\?"):
        WeightSparseConfig(**settings)


@pytest.mark.parametrize("given", [75, 75.0, "75%"])
def test_the_one_call(given: Any, tmp_path: Path) -> None:
    data = (torch.zeros(4, 2), torch.zeros(4).long())
    with pytest.raises(UserError, match=r"^`prune_ratio` .*did you mean 0\.75\?"):
        prune(nn.Linear(2, 2), data, given, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_sparsifier() -> None:
    with pytest.raises(UserError, match=r"did you mean 0\.9\?"):
        Sparsifier(nn.Linear(8, 8), GradualConfig(), ratios={"weight": 90}, total_steps=10)


def test_shares_of_a_recipe() -> None:
    with pytest.raises(UserError, match=r"`warmup` 5: .*did you mean 0\.05\?"):
        Recipe(nb_epochs=1, batch_size=8, lrn_rate=0.1, warmup=5)


@pytest.mark.parametrize("given", ["-1", "nan", "101", "1e9"])
def test_other_wrong_shares_ask_nothing(given: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(["--prune_ratio", given])
    assert "did you mean" not in str(caught.value)
