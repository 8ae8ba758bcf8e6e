"""Trainings side by side: the design of the grid, its arithmetic, and one training of each kind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import pattern_training
from benchmarks.pattern_recipes import GRID, effects, main, table
from benchmarks.pattern_training import FACTORS, TrainingSpec, make_dense, make_sparse
from benchmarks.side_by_side import run_missing
from experiments.cli.dense_weights import load_weights
from tests.support import sentence_experiment


def test_every_factor_is_on_in_half_of_the_grid_and_independent_of_the_others() -> None:
    assert len(set(GRID)) == 8
    levels = np.array([[1 if f in recipe.split("+") else -1 for f in FACTORS] for recipe in GRID])
    np.testing.assert_array_equal(levels.T @ levels, 8 * np.eye(len(FACTORS)))


def result(recipe: str, points: float, seed: int = 0) -> dict[str, Any]:
    one = {"task": "trec", "pattern": "4x1", "epochs": 2.0, "recipe": recipe, "seed": seed}
    scores = {"dense": {"test": [0.9, 0.3]}, "sparse": {"test": [0.8, 0.4], "held": [0.8, 0.4]}}
    difference = {"test": points / 100, "held": points / 100}
    return one | scores | {"difference": difference, "zeros": 0.9, "seconds": 1.0}


def test_effects_are_found_in_the_grid() -> None:
    gains = dict(zip(FACTORS, (4.0, 0.0, -1.0, 0.0, 0.5, 0.0), strict=True))
    rows = [result(recipe, sum(gains.get(f, 0) for f in recipe.split("+"))) for recipe in GRID]
    found = effects(rows).set_index("factor")["points"]
    assert found.to_dict() == pytest.approx(gains)
    assert effects(rows[1:]).empty


def test_the_table_has_means_over_seeds() -> None:
    rows = [result("base", points, seed) for seed, points in enumerate((-1.0, 0.0, 1.0))]
    (row,) = table(rows).to_dict("records")
    assert (row["seeds"], row["dense %"], row["sparse %"]) == (3, "90.00", "80.00")
    assert row["test"] == "+0.00 ± 2.48"  # t(0.975, 2) / sqrt(3)


@pytest.mark.long
@pytest.mark.parametrize(("pattern", "recipe"), [("4x1", "layers+soft+global"), ("2:4", "global")])
def test_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, recipe: str
) -> None:
    monkeypatch.setattr(
        pattern_training,
        "_experiment",
        lambda task, seed: sentence_experiment.build(sentence_experiment.Options(), seed=seed),
    )
    monkeypatch.setitem(pattern_training.BASE, "ws_mask_update_step", 2)
    make_dense("trec", 1, tmp_path, "fp32")
    trial = TrainingSpec(task="trec", pattern=pattern, recipe=recipe, seed=1, epochs=3.0)
    found = json.loads(json.dumps(make_sparse(trial, tmp_path, "fp32")))
    assert found["zeros"] == pytest.approx(pattern_training.RATIOS[pattern], abs=2e-3)
    assert found["steps"] == 30
    for part in ("held", "test"):
        gap = found["sparse"][part][0] - found["dense"][part][0]
        assert found["difference"][part] == pytest.approx(gap)
    experiment = sentence_experiment.build(sentence_experiment.Options(), seed=1)
    load_weights(experiment.model, tmp_path / "trec-1.safetensors")
    ((inputs, targets),) = experiment.data.test.batches(100)
    with torch.no_grad():
        right = experiment.model.eval()(inputs).argmax(1) == targets
    assert found["dense"]["test"][0] == pytest.approx(float(right.double().mean()))
    assert ("ws_scope" in found["settings"]) == (pattern == "4x1")


def double(number: int, folder: Path) -> dict[str, int]:
    (folder / f"{number}.pid").write_text(str(os.getpid()))
    return {"twice": 2 * number}


@pytest.mark.slow
def test_only_missing_results_are_made_each_by_a_process(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.json").write_text('{"twice": 99}')
    jobs = {name: (number, tmp_path) for number, name in enumerate(("zero", "one", "two"))}
    run_missing(double, jobs, out=out, jobs=2, title="doubling")
    made = {file.stem: json.loads(file.read_text())["twice"] for file in out.glob("*.json")}
    assert made == {"zero": 0, "one": 99, "two": 4}
    assert not (tmp_path / "1.pid").exists()
    assert os.getpid() not in {int(file.read_text()) for file in tmp_path.glob("*.pid")}


def test_an_unknown_recipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", "layers+sofd", "--out", str(tmp_path)]) == 2
    assert "known are base, layers" in capsys.readouterr().err
