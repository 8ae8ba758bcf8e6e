"""Bounds of layers hold under budgets: whole units, joint choices, fixed ratios, kept zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.budgeted_learner import kept, learner
from tests.support.known_engine import Engine
from tests.support.known_engine import learner as timed
from ws_learner.core import UserError
from ws_learner.pruning import parameter_of

QUICK = {"ws_prune_ratio_prtl": "divergence"}


def test_rounding_up_to_whole_channels_keeps_to_the_largest_ratio(tmp_path: Path) -> None:
    """Four channels of 9 weights: three may go, for the fourth would leave nothing."""
    made = learner(tmp_path, ws_budget="macs=0.3", ws_pattern="1xchannel", **QUICK)
    found = made.allocate()
    sizes = np.array([row.weights for row in made.layers()])
    assert (found.zeros <= 0.995 * sizes).all()
    cost, dense = kept(found, made, unit="macs")
    assert cost <= 0.3 * dense


@pytest.mark.parametrize("share", [0.37, 0.5, 0.83])
def test_a_fixed_ratio_holds_within_a_hundredth_among_joint_choices(
    share: float, tmp_path: Path
) -> None:
    made = learner(
        tmp_path,
        ws_budget="macs=0.5",
        ws_pattern="auto",
        ws_fixed_ratios={"3.weight": share},
        **QUICK,
    )
    assert made.allocate().zeros[1] == pytest.approx(share * 288, abs=2.88)


def test_bytes_do_not_go_below_a_layers_least_ratio(tmp_path: Path) -> None:
    """A dense layer in bytes is cheaper than half of one in floats: it is no way out."""
    made = timed(
        tmp_path,
        Engine(off=1.0),
        ws_budget="latency=0.5@wsr",
        ws_pattern="unstructured",
        ws_dtype="fp32,int8",
        ws_min_ratios={"0.weight": 0.5, "2.weight": 0.6},
        ws_max_ratios={"2.weight": 0.65},
        **QUICK,
    )
    zeros = made.allocate().zeros
    assert zeros[0] >= 0.5 * 2048
    assert 0.6 * 4096 <= zeros[1] <= 0.65 * 4096


def test_a_floor_that_no_pattern_makes_is_refused(tmp_path: Path) -> None:
    made = learner(
        tmp_path,
        ws_budget="macs=0.6",
        ws_pattern="2:4,1:4",
        ws_min_ratios={"9.weight": 0.8},
        **QUICK,
    )
    with pytest.raises(UserError, match=r"none of the patterns makes 39 to 47 zeros in 9.weight"):
        made.allocate()


def test_caps_count_in_what_is_said_to_be_reachable(tmp_path: Path) -> None:
    made = learner(
        tmp_path, ws_budget="macs=0.14", ws_pattern="auto", ws_max_ratios={"0.weight": 0.5}, **QUICK
    )
    with pytest.raises(UserError, match=r"allow 6\d\d macs"):  # 648 are those of half the layer
        made.allocate()


def test_zeros_that_are_kept_are_no_more_than_there_are(tmp_path: Path) -> None:
    made = learner(tmp_path, ws_budget="macs=0.9", ws_pattern="auto", **QUICK)
    torch.manual_seed(3)
    there = []
    with torch.no_grad():
        for row in made.layers():
            weight = parameter_of(made.model, row.name)
            weight[torch.rand_like(weight) < 0.4] = 0
            there.append(int((weight == 0).sum()))
    more = made.allocate().zeros - there
    assert (more >= 0).all()
    assert more.sum() <= 0.01 * sum(row.weights for row in made.layers())


@pytest.mark.parametrize("settings", [{}, {"ws_dtype": "fp32,int8"}])
def test_training_begins_with_the_joint_choices_of_the_rollout(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    made = timed(
        tmp_path,
        Engine(off=1.0),
        ws_budget="latency=0.4@wsr",
        ws_pattern="4x4,16x4",
        ws_init="rollout",
        **QUICK,
        **settings,
    )
    found = made.allocate()
    network: nn.Module = found.network()
    for row, spelling, count in zip(
        made.layers(), found.facts["patterns"], found.zeros.tolist(), strict=True
    ):
        if not count:
            continue
        outputs, inputs = map(int, str(spelling).split("x"))
        dead = parameter_of(network, row.name) == 0
        whole = dead.unfold(0, outputs, outputs).unfold(1, inputs, inputs).all((2, 3))
        rows, columns = (outputs * whole.shape[0], inputs * whole.shape[1])
        of_blocks = int(whole.sum()) * outputs * inputs
        rest = int(dead[rows:].sum() + dead[:rows, columns:].sum())
        assert of_blocks + rest == count or row.name == "4.weight"
