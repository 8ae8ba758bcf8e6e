"""The warning about ranks whose batch norm sees too few examples."""

from __future__ import annotations

import pytest
from torch import nn

from ws_learner.training.ray.train_loop import few_examples

NORMED = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
PLAIN = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))


@pytest.mark.parametrize(
    ("batch", "ranks", "each", "remedy"),
    [
        (16, 8, 2, "give `batch_size` 64, or `ClusterConfig.workers`=2"),
        (63, 8, 7, "give `batch_size` 64, or `ClusterConfig.workers`=7"),
        (6, 2, 3, "give `batch_size` 16"),
    ],
)
def test_flag_examples_and_remedy_are_named(batch: int, ranks: int, each: int, remedy: str) -> None:
    said = few_examples(batch, ranks=ranks, parts=["a loss", NORMED])
    assert said is not None
    assert said.startswith(f"`batch_size` {batch}: batch norm sees {each} of them on each")
    assert said.endswith(remedy)


@pytest.mark.parametrize(
    ("batch", "ranks", "model"),
    [(64, 8, NORMED), (2, 1, NORMED), (16, 8, PLAIN)],
    ids=["enough", "alone", "without batch norm"],
)
def test_nothing_is_said_where_all_is_well(batch: int, ranks: int, model: nn.Module) -> None:
    assert few_examples(batch, ranks=ranks, parts=[model]) is None
