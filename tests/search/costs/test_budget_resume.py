"""A search under a measured budget goes on where it was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.known_engine import Engine, learner
from ws_learner.report import read_rollouts

SEARCH = {
    "ws_budget": "latency=0.4@wsr",
    "ws_nb_rlouts": 8,
    "ws_nb_rlouts_min": 3,
    "ws_nb_jitters": 0,
}


def interrupted(tmp: Path, pattern: str) -> list[str]:
    """A run that was stopped after its search; the rewards of its rollouts."""
    learner(tmp, Engine(off=1.0), ws_pattern=pattern, **SEARCH).allocate()
    (tmp / "state" / "allocation.json").unlink()
    return read_rollouts(tmp / "rollouts.csv")["reward"].tolist()


@pytest.mark.parametrize("pattern", ["4x1", "auto"])
def test_a_dense_network_that_is_slower_by_now_does_not_move_the_budget(
    pattern: str, tmp_path: Path
) -> None:
    rewards = interrupted(tmp_path, pattern)
    slower = Engine(off=1.05)
    made = learner(tmp_path, slower, ws_pattern=pattern, **SEARCH)
    found = made.allocate()
    (part,) = found.facts["budget_parts"]
    assert part["most"] == pytest.approx(0.4 * slower.dense(made.config.budgets[0]) / 1.05)
    assert part["measured"] <= part["most"]
    assert read_rollouts(tmp_path / "rollouts.csv")["reward"].tolist() == rewards


def test_a_search_in_other_costs_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, "4x1")
    other = Engine(off=1.0)
    other.overhead, other.digest = 0.4, "of another machine"
    found = learner(tmp_path, other, ws_pattern="4x1", **SEARCH).allocate()
    assert "it starts anew" in "".join(capsys.readouterr())
    (part,) = found.facts["budget_parts"]
    assert 0.95 * part["most"] <= part["measured"] <= part["most"]
    assert found.rollouts == 8
