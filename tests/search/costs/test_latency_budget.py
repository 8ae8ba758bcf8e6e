"""Latency by predict, measure, correct, with an engine of known speed in place of a clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from envs import LayerRow
from ws_learner import WeightSparseConfig, WeightSparseLearner
from ws_learner.config import Budget, Recipe
from ws_learner.core import LayerChoice, UserError
from ws_learner.deploy import network_bytes
from ws_learner.pruning import parameter_of

SPEED = {"unstructured": 0.9, "4x1": 0.6, "4x4": 0.4, "16x4": 0.35, "2:4": 0.8}
"""Time of a weight that is not zero, over that of a weight of a dense layer."""


class Engine:
    """Runs a layer in `weights` microseconds, sparse ones faster by pattern and format."""

    unit, digest, overhead = "latency@wsr", "known", 0.05

    def __init__(self, *, off: float) -> None:
        self.off, self.layers = off, tuple[LayerRow, ...]()
        self.measured: list[float] = []

    def check(self, budgets: Sequence[Budget], *, patterns: Sequence[str]) -> None:
        assert budgets
        assert patterns

    def table(
        self,
        budget: Budget,
        layers: Sequence[LayerRow],
        choices: Sequence[Sequence[LayerChoice]],
    ) -> Engine:
        assert all(own[0].zeros == 0 for own in choices)
        self.layers = tuple(layers)
        return self

    def cost(self, layer: int, choice: LayerChoice) -> float:
        row = self.layers[layer]
        density = 1 - choice.zeros / row.weights
        sparse = 0.02 + SPEED[choice.pattern] * density if choice.zeros else 1.0
        return 1e-3 * row.weights * min(sparse, 1.0) * (0.4 if choice.dtype == "int8" else 1.0)

    def dense(self, budget: Budget) -> float:
        return self.off * (self.overhead + sum(1e-3 * row.weights for row in self.layers))

    def compiled(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> nn.Module:
        assert "int8" in {choice.dtype for choice in choices.values()}
        return nn.Sequential(network, nn.Identity())

    def measure(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> float:
        cost = self.overhead
        for layer, row in enumerate(self.layers):
            choice = choices[row.name]
            zeros = int((parameter_of(network, row.name) == 0).sum())
            assert zeros >= choice.zeros  # more where bytes round small weights to 0
            cost += self.cost(layer, choice)
        self.measured.append(self.off * cost)
        return self.measured[-1]


def learner(tmp: Path, engine: Engine, **settings: Any) -> WeightSparseLearner:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )
    inputs = torch.randn(240, 32)
    data = torch.utils.data.TensorDataset(inputs, inputs[:, :4].argmax(1))

    def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float()

    made = WeightSparseLearner(
        net,
        data,
        loss=nn.functional.cross_entropy,
        metric=accuracy,
        recipe=Recipe(nb_epochs=1),
        run_dir=tmp,
        workers=0,
        config=WeightSparseConfig(**settings),
    )
    made._costs = lambda: engine  # type: ignore[method-assign]
    return made


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
    assert 0.95 * part["most"] <= part["finished"] <= part["most"]
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
