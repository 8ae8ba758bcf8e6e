"""Curves, the best profile, charts and estimates, against plain arithmetic."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.service import made_run
from ws_learner.service import NewRun
from ws_learner.service.charts import chart
from ws_learner.service.estimate import estimate
from ws_learner.service.series import Series, read_search, read_training, thinned

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def test_the_best_rollout_is_the_greatest_reward_that_did_not_fail(tmp_path: Path) -> None:
    run = made_run(tmp_path, finished=False)
    found = read_search(run)
    assert found is not None
    assert (found.rollout, found.kind, found.reward, found.failed) == (1, "model", 0.7, 1)
    assert found.rewards.points == ((0, 0.5), (1, 0.7), (3, 0.6))
    assert found.best.points == ((0, 0.5), (1, 0.7), (3, 0.7))
    assert [(one.name, one.zeros) for one in found.layers] == [("a", 20), ("b", 60)]
    finished = read_search(made_run(tmp_path, "finished"))
    assert finished is not None
    assert [(one.name, one.ratio) for one in finished.layers] == [("a", 0.5), ("b", 0.875)]


def test_curves_of_training_go_on_over_phases(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    text = (run / "metrics.csv").read_text() + "5,0.5,tuning,0.4,,0.8\n6,1.0,tuning,0.3"  # half
    (run / "metrics.csv").write_text(text)
    curves = {one.name: one.points for one in read_training(run)}
    assert curves["training loss"] == ((0.5, 1.5), (1.0, 1.0), (2.0, 0.5), (2.5, 0.4))
    assert curves["accuracy, select images"] == ((1.0, 0.7), (2.0, 0.85))
    assert read_training(tmp_path / "none") == ()
    assert read_search(tmp_path / "none") is None


@settings(max_examples=30)
@given(st.lists(NUMBERS, max_size=1500))
def test_a_thinned_curve_keeps_its_extremes_and_order(values: list[float]) -> None:
    points = tuple((float(i), value) for i, value in enumerate(values))
    found = thinned(Series("x", points), most=100)
    assert set(found.points) <= set(points)
    assert list(found.points) == sorted(found.points)
    assert len(found.points) <= max(100, len(points) if len(points) <= 100 else 100)
    if points:
        heights = [p[1] for p in found.points]
        assert (min(heights), max(heights)) == (min(values), max(values))


@settings(max_examples=60)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_every_point_of_a_chart_lies_in_its_picture(points: list[tuple[float, float]]) -> None:
    text = str(chart([Series("<&>", tuple(sorted(points)))], x="<x>", y="&y"))
    assert "<x>" not in text
    assert "<&>" not in text
    places = re.findall(r'points="([^"]*)"', text) or re.findall(r'cx="([^"]*)" cy="([^"]*)"', text)
    flat = [float(one) for one in re.findall(r"-?\d+\.?\d*", str(places))]
    assert flat
    assert all(0 <= x <= 560 for x in flat[::2])
    assert all(0 <= y <= 220 for y in flat[1::2])


def test_an_estimate_scales_earlier_runs(tmp_path: Path) -> None:
    """Their search took 8 s for 4 rollouts, their training 20 s for 2 epochs."""
    runs = [made_run(tmp_path, name) for name in ("a", "b")]
    new = NewRun(experiment="made", rollouts=10, epochs=4)
    assert estimate(new, runs, searches=True).seconds == pytest.approx(20 + 40)
    assert estimate(new, runs, searches=False).seconds == pytest.approx(40)
    timed = NewRun(experiment="made", minutes=3)
    assert estimate(timed, runs, searches=True).seconds == pytest.approx(20 + 180)
    assert estimate(NewRun(experiment="made"), runs, searches=True).runs == 2
    other = estimate(NewRun(experiment="other"), runs, searches=True)
    assert (other.seconds, other.runs) == (None, 0)
    assert other.text.startswith("unknown")
