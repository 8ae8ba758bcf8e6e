"""One pattern in all layers is taken where the joint choice is measured to be worse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from torch import nn

from tests.support.known_engine import Engine, learner
from ws_learner.config import Budget
from ws_learner.core import LayerChoice


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


@pytest.mark.parametrize("penalty", [1.0, 2.5])
def test_the_better_of_one_pattern_and_the_joint_choice(penalty: float, tmp_path: Path) -> None:
    found = learner(
        tmp_path,
        DislikesMixtures(penalty=penalty),
        ws_budget="latency=0.3@wsr",
        ws_pattern="4x1,4x4,16x4",
        ws_prune_ratio_prtl="divergence",
    ).allocate()
    rows = {row["choice"]: row["reward"] for row in found.facts["choices_compared"]}
    used = {
        pattern
        for pattern, zeros in zip(found.facts["patterns"], found.zeros, strict=True)
        if zeros
    }
    best = max(rows, key=lambda name: rows[name])
    (part,) = found.facts["budget_parts"]
    assert part["measured"] <= part["most"]
    assert "joint" in rows
    clearly_better = 1 - rows[best] < 0.9 * (1 - rows["joint"])
    assert clearly_better == (used == {best})
    assert clearly_better == (penalty > 1)


def test_one_pattern_named_has_nothing_to_compare(tmp_path: Path) -> None:
    found = learner(
        tmp_path,
        Engine(off=1.0),
        ws_budget="latency=0.4@wsr",
        ws_pattern="4x1",
        ws_prune_ratio_prtl="divergence",
    ).allocate()
    assert "choices_compared" not in found.facts
