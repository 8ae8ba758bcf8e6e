"""Whoever trains scores for too few steps is told."""

from __future__ import annotations

import pytest

from ws_learner.config.learner import WeightSparseConfig
from ws_learner.config.recipe import Recipe
from ws_learner.training.sparse import check_steps


@pytest.mark.parametrize(
    ("steps", "examples", "told"),
    [("optimizer", 4_000, True), ("optimizer", 400_000, False), ("weights", 4_000, False)],
)
def test_few_steps_for_learned_scores(
    steps: str, examples: int, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    config = WeightSparseConfig(ws_method="movement", movement_steps=steps)
    check_steps(config, Recipe(nb_epochs=2, batch_size=32, lrn_rate=0.01), examples=examples)
    assert ("`movement_steps` weights" in capsys.readouterr().err) == told


def test_gradual_pruning_has_no_scores(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Recipe(nb_epochs=2, batch_size=32, lrn_rate=0.01)
    check_steps(WeightSparseConfig(ws_method="gradual"), recipe, examples=4_000)
    assert capsys.readouterr().err == ""
