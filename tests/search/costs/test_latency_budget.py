"""Latency by predict, measure, correct, with an engine of known speed in place of a clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from envs import IntArray
from tests.support.known_engine import Engine, learner
from ws_learner import Result
from ws_learner.config import Budget
from ws_learner.core import LayerChoice, UserError
from ws_learner.deploy import network_bytes
from ws_learner.pruning import parameter_of
from ws_learner.search.allocation import Decision, load_decision


@pytest.mark.parametrize("off", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("pattern", ["4x1", "auto"])
def test_a_latency_is_met_though_the_prediction_is_off(
    pattern: str, off: float, tmp_path: Path
) -> None:
    engine = Engine(off=off)
    made = learner(
        tmp_path,
        engine,
        ws_budget="latency=0.4@wsr",
        ws_pattern=pattern,
        ws_prune_ratio_prtl="divergence",
    )
    result = made.fit()
    (part,) = result.summary["budget_parts"]
    assert part["most"] == pytest.approx(0.4 * engine.dense(made.config.budgets[0]))
    assert part["finished"] <= part["most"]
    near = part["finished"] >= 0.95 * part["most"]
    assert near or made.config.chooses  # few choices leave gaps; the best after training is taken
    assert part["finished"] == pytest.approx(engine.measured[-1])


def test_every_layer_has_its_own_pattern_and_format_and_is_trained_to_it(tmp_path: Path) -> None:
    made = learner(
        tmp_path,
        Engine(off=1.0),
        ws_budget="latency=0.15@wsr",
        ws_pattern="4x1,16x4",
        ws_dtype="fp32,int8",
        ws_prune_ratio_prtl="knapsack",
    )
    result = made.fit()
    (part,) = result.summary["budget_parts"]
    assert part["finished"] <= part["most"]
    table = result.ratios.set_index("layer")
    assert set(table["pattern"]) <= {"4x1", "16x4", "unstructured"}
    assert "int8" in set(table["dtype"])
    assert result.summary["int8_accuracy"] == result.summary["sparse_accuracy"]
    for name, row in table.iterrows():
        weight = parameter_of(result.model, str(name))
        if row["pattern"] in ("4x1", "16x4") and row["prune_ratio"]:
            outputs, inputs = map(int, str(row["pattern"]).split("x"))
            alive = (weight != 0).unfold(0, outputs, outputs).unfold(1, inputs, inputs).any((2, 3))
            whole = alive.repeat_interleave(outputs, 0).repeat_interleave(inputs, 1)
            rows, columns = whole.shape
            assert not weight[:rows, :columns][~whole].any()
            dead = int((~whole).sum())
            assert dead >= 0.9 * round(row["prune_ratio"] * weight.numel())
    assert np.isclose(table["predicted_ms"].sum() + Engine.overhead, part["finished"])


def test_a_search_among_joint_choices_meets_the_budget(tmp_path: Path) -> None:
    made = learner(
        tmp_path,
        Engine(off=1.1),
        ws_budget="latency=0.3@wsr,params=0.5",
        ws_nb_rlouts=16,
        ws_nb_jitters=0,
    )
    found = made.allocate()
    parts = found.facts["budget_parts"]
    assert parts[0]["measured"] <= parts[0]["most"]
    weights = sum(row.weights for row in made.layers())
    assert weights - int(found.zeros.sum()) <= 0.5 * weights
    assert found.rollouts == 16


def test_a_latency_below_what_the_cheapest_choices_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"allow .* of which 0.05 ms no layer has; raise it"):
        learner(
            tmp_path,
            Engine(off=1.0),
            ws_budget="latency=10us@wsr",
            ws_pattern="4x1",
            ws_prune_ratio_prtl="knapsack",
        ).allocate()


@pytest.mark.parametrize("settings", [{"ws_pattern": "unstructured"}, {"ws_dtype": "fp32,int8"}])
def test_bytes_are_those_of_the_file(settings: dict[str, Any], tmp_path: Path) -> None:
    made = learner(
        tmp_path,
        Engine(off=1.0),
        ws_budget="bytes=6kB",
        ws_prune_ratio_prtl="knapsack",
        **settings,
    )
    del made._costs  # the real sizes
    result = made.fit()
    (part,) = result.summary["budget_parts"]
    assert 5_700 <= part["finished"] <= 6_000
    rows = result.ratios
    formats = dict(zip(rows["layer"], rows["dtype"], strict=True)) if "dtype" in rows else "fp32"
    assert network_bytes(result.model, formats) == part["finished"]


class SlowerAfterTraining(Engine):
    """Trained networks, whose zeros stand in other places, take longer than pruned ones."""

    def __init__(self, *, slower: float) -> None:
        super().__init__(off=1.0)
        self.slower = slower

    def measure(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> float:
        found = super().measure(budget, network, choices)
        trained = int((parameter_of(network, "4.bias") != self.bias).any())
        self.measured[-1] = found * (self.slower if trained else 1.0)
        return self.measured[-1]


@pytest.mark.parametrize("settings", [{"ws_pattern": "4x1"}, {"ws_pattern": "4x1,16x4"}])
def test_a_latency_missed_after_training_is_met_by_pruning_a_little_more(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    engine = SlowerAfterTraining(slower=1.15)
    made = learner(
        tmp_path,
        engine,
        ws_budget="latency=0.4@wsr",
        ws_prune_ratio_prtl="divergence",
        **settings,
    )
    engine.bias = parameter_of(made.model, "4.bias").clone()
    result = made.fit()
    (part,) = result.summary["budget_parts"]
    before = load_decision(tmp_path / "state" / "allocation.json", made.layers())
    after = load_decision(tmp_path / "state" / "allocation-1.json", made.layers())
    first = sum(engine.cost(i, one) for i, one in enumerate(choices_of(before)))
    assert engine.slower * (engine.overhead + first) > part["most"]
    assert part["finished"] <= part["most"]
    assert part["finished"] == pytest.approx(engine.measured[-1])
    assert after.zeros.sum() > before.zeros.sum()
    assert (zeros_of(result) >= after.zeros).all()
    again = made.fit()
    assert again.summary["budget_parts"] == result.summary["budget_parts"]


def choices_of(decision: Decision) -> list[LayerChoice]:
    patterns = decision.facts.get("patterns") or ["4x1"] * len(decision.zeros)
    pairs = zip(patterns, decision.zeros.tolist(), strict=True)
    return [LayerChoice(pattern=pattern, zeros=zeros) for pattern, zeros in pairs]


def zeros_of(result: Result) -> IntArray:
    names = result.ratios["layer"]
    return np.array([int((parameter_of(result.model, name) == 0).sum()) for name in names])
