"""Comparisons of runs: intervals against scipy, settings and ratios against the files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tests.support.run_folders import copied
from ws_learner import UserError
from ws_learner.core import RunDir
from ws_learner.report import compare_runs
from ws_learner.report.intervals import difference_interval, share_interval


def scipys(count: int, examples: int) -> tuple[float, float]:
    found = binomtest(count, examples).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


@settings(max_examples=25)
@given(st.data(), st.integers(1, 20_000))
def test_intervals_of_a_share_are_scipys(data: st.DataObject, examples: int) -> None:
    count = data.draw(st.integers(0, examples))
    assert share_interval(count / examples, examples) == pytest.approx(
        scipys(count, examples), abs=1e-9
    )


def test_the_difference_is_newcombes_published_example() -> None:
    # Newcombe 1998, table II, example (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339.
    low, high = difference_interval(48 / 80, 56 / 70, examples=(80, 70))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@settings(max_examples=25)
@given(st.integers(0, 100), st.integers(0, 250))
def test_the_difference_follows_from_scipys_intervals(first: int, second: int) -> None:
    (low1, high1), (low2, high2) = scipys(first, 100), scipys(second, 250)
    p1, p2 = first / 100, second / 250
    low = p2 - p1 - math.sqrt((p2 - low2) ** 2 + (high1 - p1) ** 2)
    high = p2 - p1 + math.sqrt((high2 - p2) ** 2 + (p1 - low1) ** 2)
    found = difference_interval(p1, p2, examples=(100, 250))
    assert found == pytest.approx((max(low, -1), min(high, 1)), abs=1e-9)


def changed(run: Path, **settings: object) -> Path:
    file = run / "identity.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return run


def test_runs_side_by_side(tmp_path: Path) -> None:
    first = copied(tmp_path, "first")
    close = changed(copied(tmp_path, "close", sparse_accuracy=0.66), seed=1)
    far = changed(copied(tmp_path, "far", sparse_accuracy=0.8), ws_prune_ratio=0.5, extra=1)
    found = compare_runs([first, close, far])
    assert {line.name: line.values for line in found.settings} == {
        "seed": ("0", "1", "0"),
        "ws_prune_ratio": ("0.8", "0.8", "0.5"),
        "extra": ("-", "-", "1"),
    }
    (sparse,) = (line for line in found.metrics if line.name == "sparse accuracy (test)")
    assert sparse.values == (0.645, 0.66, 0.8)
    assert sparse.intervals[0] == pytest.approx(scipys(129, 200))
    none, near, distant = sparse.differences
    assert none is None
    assert near is not None
    assert near.value == pytest.approx(0.015)
    assert near.within
    assert distant is not None
    assert not distant.within
    with (first / "ratios.csv").open() as file:
        wanted = {row["layer"]: float(row["achieved"]) for row in csv.DictReader(file)}
    assert {line.layer: line.values for line in found.ratios} == {
        layer: (ratio,) * 3 for layer, ratio in wanted.items()
    }


def test_settings_of_searches_are_compared_among_searches(tmp_path: Path) -> None:
    first, second = copied(tmp_path, "a"), changed(copied(tmp_path, "b"), ws_nb_rescore=99)
    assert [line.name for line in compare_runs([first, second]).settings] == ["ws_nb_rescore"]
    none = changed(copied(tmp_path, "c", rollouts=0), ws_nb_rescore=99, seed=5)
    found = compare_runs([first, none])
    assert [line.name for line in found.settings] == ["seed"]
    assert any("no search" in note for note in found.notes)


def test_other_data_have_no_interval_of_the_difference(tmp_path: Path) -> None:
    first, other = copied(tmp_path, "a"), changed(copied(tmp_path, "b"), data="another")
    unknown = copied(tmp_path, "c")
    (unknown / "identity.json").unlink()
    for second in (other, unknown):
        found = compare_runs([first, second])
        assert all(one is None for line in found.metrics for one in line.differences)
        assert any("same examples" in note for note in found.notes)


def test_runs_without_results_are_noted(tmp_path: Path) -> None:
    first, going = copied(tmp_path, "a"), copied(tmp_path, "b", of="training")
    damaged = copied(tmp_path, "c")
    (damaged / "ratios.csv").write_text("layer,weights\n1")
    (damaged / "summary.json").write_text("{")
    found = compare_runs([first, going, damaged])
    assert any(note.startswith("b: is stopped") for note in found.notes)
    assert any(note.startswith("c: summary.json") for note in found.notes)
    assert all(line.values[1:] == (None, None) for line in found.ratios)
    (damaged / "summary.json").write_bytes((first / "summary.json").read_bytes())
    assert any(note.startswith("c: ") for note in compare_runs([first, damaged]).notes)


def test_one_run_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give 2 to 50"):
        compare_runs([copied(tmp_path, "a")])


@pytest.mark.parametrize("edited", [True, False])
def test_a_table_that_is_not_the_one_of_the_run_is_noted(tmp_path: Path, edited: bool) -> None:
    first, second = copied(tmp_path, "a"), copied(tmp_path, "b")
    RunDir(second).finish(json.loads((second / "summary.json").read_text()))
    assert compare_runs([first, second]).ratios[0].values[1] is not None
    table = second / "ratios.csv"
    text = table.read_text()
    table.unlink()
    if edited:
        table.write_text(text + text.splitlines()[-1])
    found = compare_runs([first, second])
    said = "its SHA-256 is another" if edited else "is missing from a finished run"
    assert [said in note for note in found.notes if note.startswith("b: ")] == [True]
    assert all(line.values[1] is None for line in found.ratios)
