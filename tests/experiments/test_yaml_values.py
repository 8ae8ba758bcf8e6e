"""Our own config files and sweep files read `2:4` as a pattern and refuse what is no number."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.cli.flags import parse
from experiments.cli.ray.sweep_plan import read_plan
from ws_learner.core import UserError


def config(folder: Path, text: str) -> list[str]:
    path = folder / "own.yaml"
    path.write_text(text)
    return ["resnet_at_cifar10", "--config", str(path)]


@pytest.mark.parametrize("name", ["pattern", "ws_pattern"])
def test_a_pattern_needs_no_quotes(name: str, tmp_path: Path) -> None:
    command = parse(config(tmp_path, f"{name}: 2:4\nmethod: srste\nlrn_rate: 1e-3\n"))
    assert command.ws.ws_pattern == "2:4"
    assert command.run.lrn_rate == 0.001


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("seed: yes", "seed True: must be a number, not yes or no"),
        ("nb_epochs: on", "nb_epochs True: must be a number"),
        ("nb_epochs: 1:30", "nb_epochs 1:30: must be a valid number"),
        ("seed: 1.5", "seed 1.5: must be a valid integer"),
        ("ws_scope: no", "ws_scope False: no such choice"),
        ("ws_location: off", "ws_location False: must be a valid string"),
        ("prune_ratio: 0.5\nprune_ratio: 0.9", "prune_ratio is given twice"),
    ],
)
def test_what_is_no_such_value_is_refused(line: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=text):
        parse(config(tmp_path, line))


def test_sweeps_try_patterns(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("space:\n  ws_pattern: [2:4, 1:4, 4x1]\n")
    assert read_plan(path).space == {"ws_pattern": ["2:4", "1:4", "4x1"]}
    path.write_text("space:\n  seed: [1]\nspace:\n  seed: [2]\n")
    with pytest.raises(UserError, match="space is given twice"):
        read_plan(path)
