"""Few patterns are taken where their network is better after a short training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from tests.support.known_engine import Engine, learner
from tests.support.layer_rows import layer_rows
from ws_learner.config import Budget
from ws_learner.core import LayerChoice
from ws_learner.search.context import AllocationContext
from ws_learner.search.costs.contest import Contest

PATTERNS = {"4x1", "4x4", "16x4"}


class DislikesMixtures(Engine):
    """Takes longer for a network of several patterns than the sum of its layers says."""

    def __init__(self, *, penalty: float) -> None:
        super().__init__(off=1.0)
        self.penalty = penalty

    def measure(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> float:
        used = {choice.pattern for choice in choices.values() if choice.zeros}
        found = super().measure(budget, network, choices)
        self.measured[-1] = found * (self.penalty if len(used) > 1 else 1.0)
        return self.measured[-1]


class KnownSpace:
    """Ladders of a layer with one tick."""

    def __init__(self, patterns: Collection[str]) -> None:
        self.first = next(iter(patterns))

    def at(self, share: float) -> AllocationContext:
        curves = np.array([0.0, 1.0]), np.array([[0.0, 1.0]])
        return AllocationContext(
            layers=layer_rows([2]),
            budget=1,
            lower=np.array([0]),
            upper=np.array([1]),
            magnitudes=lambda: [],
            curves=lambda: curves,
            own=lambda: None,
        )


@pytest.mark.parametrize("penalty", [1.0, 2.5])
def test_the_better_of_one_pattern_and_the_joint_choice(penalty: float, tmp_path: Path) -> None:
    found = learner(
        tmp_path,
        DislikesMixtures(penalty=penalty),
        ws_budget="latency=0.3@wsr",
        ws_pattern="4x1,4x4,16x4",
        ws_prune_ratio_prtl="divergence",
    ).allocate()
    losses = {row["choice"]: row["loss"] for row in found.facts["choices_compared"]}
    used = {
        pattern
        for pattern, zeros in zip(found.facts["patterns"], found.zeros, strict=True)
        if zeros
    }
    best = min(losses, key=lambda name: losses[name])
    (part,) = found.facts["budget_parts"]
    assert part["measured"] <= part["most"]
    assert best == "joint" or used <= set(best.split(" and "))
    singles = sorted(losses.keys() & PATTERNS, key=lambda name: losses[name])
    pairs = {frozenset(name.split(" and ")) for name in losses if " and " in name}
    assert pairs <= {frozenset(pair) for pair in combinations(singles[:3], 2)}


def test_without_a_joint_choice_within_the_budget_another_is_taken(tmp_path: Path) -> None:
    found = learner(
        tmp_path,
        DislikesMixtures(penalty=1e3),
        ws_budget="latency=0.3@wsr",
        ws_pattern="4x1,4x4,16x4",
        ws_prune_ratio_prtl="divergence",
    ).allocate()
    used = {p for p, z in zip(found.facts["patterns"], found.zeros, strict=True) if z}
    assert len(used) == 1
    assert found.facts["budget_parts"][0]["measured"] <= found.facts["budget_parts"][0]["most"]


def test_the_loss_after_training_decides_and_not_the_order_before(tmp_path: Path) -> None:
    def answer(name: str) -> tuple[tuple[LayerChoice, ...], list[dict[str, Any]]]:
        return (LayerChoice(pattern=name, zeros=1),), [{"name": name}]

    trained = {"4x1": 0.3, "4x4": 0.1, "16x4": 0.2, "unstructured": 0.4}
    contest = Contest(
        patterns=["4x1", "4x4", "16x4"],
        space=lambda patterns: KnownSpace(patterns),  # type: ignore[arg-type,return-value]
        corrected=lambda space, _: answer(space.first),  # type: ignore[attr-defined]
        share=lambda space: 0.5,
        loss=lambda profile: trained[profile[0].pattern],
    )
    best, rows = contest.best(lambda: answer("unstructured"))
    assert (best.name, best.parts) == ("4x4", [{"name": "4x4"}])
    assert [row["choice"] for row in rows] == ["joint", "4x1", "4x4", "16x4"]  # pairs are known


def test_one_pattern_named_has_nothing_to_compare(tmp_path: Path) -> None:
    found = learner(
        tmp_path,
        Engine(off=1.0),
        ws_budget="latency=0.4@wsr",
        ws_pattern="4x1",
        ws_prune_ratio_prtl="divergence",
    ).allocate()
    assert "choices_compared" not in found.facts
