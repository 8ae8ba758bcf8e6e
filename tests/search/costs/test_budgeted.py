"""Budgets in parameters and multiply-accumulates: met exactly by every protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from tests.support.budgeted_learner import SEARCH, kept, learner
from ws_learner.config import PROTOCOLS
from ws_learner.core import UserError
from ws_learner.search.structured.budgeted import _Shares


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "given"])
def test_every_protocol_meets_a_budget_of_macs(protocol: str, tmp_path: Path) -> None:
    made = learner(tmp_path, ws_budget="macs=0.3", ws_prune_ratio_prtl=protocol, **SEARCH)
    found = made.allocate()
    cost, dense = kept(found, made, unit="macs")
    cheapest = min(row.macs / row.weights for row in made.layers())
    assert 0.3 * dense - cheapest < cost <= 0.3 * dense  # not one weight more fits


@pytest.mark.parametrize("protocol", ["uniform", "erk", "lamp", "knapsack", "divergence"])
def test_a_budget_of_parameters_is_a_prune_ratio(protocol: str, tmp_path: Path) -> None:
    chosen = {"ws_prune_ratio_prtl": protocol}
    one = learner(tmp_path / "a", ws_budget="params=0.25", **chosen).allocate()
    other = learner(tmp_path / "b", ws_prune_ratio=0.75, **chosen).allocate()
    assert one.zeros.tolist() == other.zeros.tolist()


def test_several_budgets_hold_at_once(tmp_path: Path) -> None:
    made = learner(
        tmp_path, ws_budget="params=0.2,macs=0.35", ws_prune_ratio_prtl="divergence", **SEARCH
    )
    found = made.allocate()
    shares = []
    for unit, share in (("params", 0.2), ("macs", 0.35)):
        cost, dense = kept(found, made, unit=unit)
        assert cost <= share * dense
        shares.append(cost / (share * dense))
    assert max(shares) > 0.99


def test_whole_blocks_meet_a_budget_as_nearly_as_one_block_allows(tmp_path: Path) -> None:
    made = learner(tmp_path, ws_budget="macs=0.4", ws_pattern="4x1", ws_prune_ratio_prtl="knapsack")
    found = made.allocate()
    assert not (found.zeros[:3] % 4).any()  # the last layer's three outputs make smaller blocks
    cost, dense = kept(found, made, unit="macs")
    block = max(4 * row.macs / row.weights for row in made.layers())
    assert 0.4 * dense - block < cost <= 0.4 * dense


def test_a_budget_out_of_reach_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"allow \d+ macs \(0\.0\d+ of the dense network's\) to"):
        learner(tmp_path, ws_budget="macs=0.0001", **SEARCH).allocate()
    assert not (tmp_path / "rollouts.csv").exists()


def test_a_budget_that_the_dense_network_meets_prunes_nothing(tmp_path: Path) -> None:
    assert not learner(tmp_path, ws_budget="macs=1", **SEARCH).allocate().zeros.any()


def test_rollouts_and_frontier_are_written_in_weights(tmp_path: Path) -> None:
    made = learner(tmp_path, ws_goals="macs=0.2:0.6", **SEARCH | {"ws_nb_rlouts": 20})
    found = made.allocate()
    rows = made.layers()
    prices = np.array([row.macs / row.weights for row in rows])
    sizes = np.array([row.weights for row in rows])
    dense = float(prices @ sizes)
    frontier = pd.read_csv(tmp_path / "frontier.csv")
    zeros = frontier[[f"zeros/{row.name}" for row in rows]].to_numpy()
    shares = 1 - ((sizes - zeros) @ prices) / dense
    assert np.abs(shares - frontier["target"]).max() < 0.01
    assert frontier["target"].between(0.4, 0.8).all()
    rollouts = pd.read_csv(tmp_path / "rollouts.csv")
    counts = rollouts[[f"zeros/{row.name}" for row in rows]].to_numpy()
    assert (counts <= sizes).all()
    assert kept(found, made, unit="macs")[0] <= 0.25 * dense


def test_a_policy_serves_the_unit_that_it_knows(tmp_path: Path) -> None:
    taught = learner(tmp_path / "a", ws_goals="macs=0.2:0.6", **SEARCH | {"ws_nb_rlouts": 20})
    taught.allocate()
    used = learner(tmp_path / "b", ws_budget="macs=0.4", ws_policy=tmp_path / "a")
    cost, dense = kept(used.allocate(), used, unit="macs")
    assert 0.39 * dense < cost <= 0.4 * dense
    with pytest.raises(UserError, match=r"knows budgets in macs, not in params; give `ws_budget`"):
        learner(tmp_path / "c", ws_prune_ratio=0.5, ws_policy=tmp_path / "a").allocate()


def test_joint_choices_are_not_scored_before_the_dense_training(tmp_path: Path) -> None:
    made = learner(tmp_path, ws_budget="macs=0.3", ws_pattern="auto", **SEARCH)
    made.check()
    assert made._allocator(made.layers())._evaluator is None
    wrong = learner(tmp_path, ws_budget="macs=0.3", ws_pattern="4x1,units", **SEARCH)
    with pytest.raises(UserError, match=r"`ws_pattern` units: cannot be one of several patterns"):
        wrong.check()


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "auto"])
def test_bytes_out_of_reach_are_refused_before_any_work(pattern: str, tmp_path: Path) -> None:
    settings = {**SEARCH, "ws_pattern": pattern}
    with pytest.raises(UserError, match=r"`ws_budget` bytes=100B: .* allow [\d,.]+ (bytes|MB)"):
        learner(tmp_path, ws_budget="bytes=100B", **settings).check()
    learner(tmp_path, ws_budget="bytes=0.5", **settings).check()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"ws_budget": "latency=0.4@openvino"}, r"`ws_budget` latency=0.4@openvino: .*install"),
        ({"ws_budget": "latency=0.4@wsr", "ws_latency_batch": 5000}, r"has \d+ examples"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(
    settings: dict[str, Any], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str) -> object:
        return None if name == "openvino" else name

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    with pytest.raises(UserError, match=line):
        learner(tmp_path, **settings).check()


def test_a_network_without_whole_units_is_refused_for_an_engine(tmp_path: Path) -> None:
    made = learner(tmp_path, ws_budget="latency=0.4@torch")
    made.model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    with pytest.raises(UserError, match="no channels, heads or neurons of this network"):
        made.check()


def test_what_whole_units_reach_is_said_in_the_unit_of_the_budget(tmp_path: Path) -> None:
    @dataclass
    class Units:
        """Costs by the numbers of kept units, all of them or one."""

        low: float
        levels = ((1, 2),)
        digest = ""

        def total(self, kept: Sequence[int]) -> float:
            return self.low if kept[0] == 1 else 100.0

    made = learner(tmp_path, ws_budget="macs=0.04k,latency=0.4@torch")
    structured = made._allocator(made.layers())._structured()
    costs = _Shares(parts=[Units(10.0), Units(50.0)], most=[20.0, 40.0])  # type: ignore[list-item]
    latency_first = made.config.budgets[::-1]
    with pytest.raises(UserError, match=r"macs=40: .* predicted at 50 macs \(0.500"):
        structured._refuse_unreachable(costs, latency_first)
