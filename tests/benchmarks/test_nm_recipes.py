"""The comparison of recipes: many runs side by side, stopped and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.nm_recipes import main
from benchmarks.nm_report import add_run, mean_and_interval, read_runs
from benchmarks.side_by_side import side_by_side

TINY = str(Path(__file__).parents[1] / "support" / "tiny_vit_experiment.py")
ARGUMENTS = ["--network", TINY, "--batch", "32", "--epochs", "1", "--seeds", "2"]
ARGUMENTS += ["--recipes", "dense sdgf-geo", "--patterns", "1:8"]


def half(number: int) -> float:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number / 2


@pytest.mark.parametrize("jobs", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_one_that_fails_leaves_the_others_alone(jobs: int) -> None:
    found = dict(side_by_side(half, [4, 3, 8, 6], jobs=jobs))
    assert {item: found[item] for item in (4, 6, 8)} == {4: 2, 6: 3, 8: 4}
    assert isinstance(found[3], ValueError)
    assert str(found[3]) == "3 is odd"


def test_lines_survive_a_kill(tmp_path: Path) -> None:
    assert read_runs(tmp_path) == []
    rows = [{"seed": seed, "test": seed / 7} for seed in range(3)]
    for row in rows[:2]:
        add_run(tmp_path, row)
    file = tmp_path / "runs.jsonl"
    file.write_text(file.read_text() + '{"seed":2,"te')
    assert read_runs(tmp_path) == rows[:2]
    add_run(tmp_path, rows[2])
    assert read_runs(tmp_path) == rows
    assert all(json.loads(line) for line in file.read_text().splitlines())


@pytest.mark.long
def test_runs_are_trained_once_and_drawn(tmp_path: Path) -> None:
    assert main([*ARGUMENTS, "--out", str(tmp_path)]) == 0
    rows = read_runs(tmp_path)
    kinds = [(row["recipe"], row["pattern"], row["seed"], row["zeros"]) for row in rows]
    weights = 2 * 2 * 16 * 64  # two blocks with two layers
    sparse = ("sdgf-geo", "1:8@ff")
    assert kinds == [
        *(("dense", "dense", 0, 0), (*sparse, 0, weights * 7 // 8)),
        *(("dense", "dense", 1, 0), (*sparse, 1, weights * 7 // 8)),
    ]
    for row in rows:
        curves = np.array(row["curves"])
        assert curves[:, 0].tolist() == [4, 8]  # twice an epoch of 8 steps
        assert (curves[:, 1] > 0).all()
        assert (curves[:, 3] > 0).any() == (row["recipe"] != "dense")
        assert len(row["epoch_seconds"]) == 1
    before = (tmp_path / "runs.jsonl").read_bytes()
    assert main([*ARGUMENTS, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "runs.jsonl").read_bytes() == before
    pairs = [rows[1]["test"] - rows[0]["test"], rows[3]["test"] - rows[2]["test"]]
    mean, width = mean_and_interval([100 * value for value in pairs])
    assert f"| {mean:+.2f} ± {width:.2f} |" in (tmp_path / "table.md").read_text()
    for name in ("curves", "accuracy"):
        assert (tmp_path / f"{name}-tiny_vit_experiment.svg").stat().st_size > 1000


@pytest.mark.slow
def test_side_by_side_is_what_one_after_the_other_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for jobs in ("1", "2"):
        assert main([*ARGUMENTS, "--jobs", jobs, "--out", str(tmp_path / jobs)]) == 0
    one, two = (
        {(row["recipe"], row["seed"]): row for row in read_runs(tmp_path / jobs)}
        for jobs in ("1", "2")
    )
    assert one.keys() == two.keys()
    for key, row in one.items():
        assert row["test"] == two[key]["test"]
        assert row["curves"] == two[key]["curves"]
    assert main([*ARGUMENTS, "--jobs", "2", "--timing", "--out", str(tmp_path / "none")]) == 0
    assert "2 side by side: an epoch takes" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
