"""Figures are whole SVG files, the same bytes for the same data, and show the data."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ws_learner.report.figures import draw_all, ratios_figure, schedule_figure, search_figure
from ws_learner.report.frontier_figure import frontier_figure
from ws_learner.report.metrics import MetricsLog
from ws_learner.report.policy_figures import policy_figure
from ws_learner.report.table import COLUMNS, to_csv

SVG = "{http://www.w3.org/2000/svg}"


def _ratios(count: int = 22) -> pd.DataFrame:
    rng = np.random.default_rng(count)
    weights = rng.integers(10, 40_000, count)
    zeros = (weights * rng.random(count)).astype(int)
    names = [f"layer{i}.0.downsample.{i}.weight" for i in range(count)]
    ratio = zeros / weights
    columns = (names, "conv2d", "conv", "1x1", weights, ratio, ratio, weights, weights - zeros)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _metrics(*, sparse: bool = True) -> pd.DataFrame:
    steps = np.arange(0, 1000, 50)
    frame = pd.DataFrame({"step": steps, "phase": "sparse", "train/loss": 2.0 / (1 + steps)})
    if sparse:
        frame["prune/planned"] = 0.75 * (1 - (1 - steps / 950) ** 3)
        frame["prune/ratio"] = np.floor(frame["prune/planned"] * 20) / 20
        frame["select/accuracy"] = np.where(steps % 100 == 0, 0.9, np.nan)
        dense = pd.DataFrame({"step": [123_456], "phase": ["dense"], "train/loss": [1.0]})
        frame = pd.concat([dense, frame], ignore_index=True)
    return frame


def _rollouts(**columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "rollout": range(6),
            "kind": ["prior", "warm-up", "warm-up", "agent", "agent", "final"],
            "reward": [0.7, 0.2, 0.3, 0.8, np.nan, 0.75],
            "failed": ["", "", "", "", "out of memory", ""],
        }
    )
    return frame.assign(**columns)


def _texts(path: Path) -> list[str]:
    root = ET.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return ["".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")]


def _path_points(path: Path, colour: str) -> np.ndarray:
    """(N, 2) corners of the longest line of this colour."""
    lines = [
        node.attrib["d"].replace("L", " ").replace("M", " ").split()
        for node in ET.parse(path).getroot().iter(f"{SVG}path")
        if f"stroke: {colour}" in node.attrib.get("style", "").lower()
    ]
    return np.array(max(lines, key=len), dtype=float).reshape(-1, 2)


@pytest.mark.long
@pytest.mark.parametrize(
    ("draw", "frame"),
    [
        (ratios_figure, _ratios()),
        (ratios_figure, _ratios(1)),
        (schedule_figure, _metrics()),
        (schedule_figure, _metrics(sparse=False)),
        (search_figure, _rollouts()),
        (search_figure, _rollouts().iloc[:1]),
        (search_figure, _rollouts(failed="killed")),
    ],
)
def test_the_same_data_gives_the_same_whole_svg(tmp_path: Path, draw, frame: pd.DataFrame):
    one, two = tmp_path / "1.svg", tmp_path / "2.svg"
    draw(frame, one)
    draw(frame, two)
    assert one.read_bytes() == two.read_bytes()
    assert len(_texts(one)) > 4
    assert len(one.read_bytes()) < 60_000
    assert b"<dc:date>" not in one.read_bytes()


def test_ratios_names_every_layer_its_ratio_and_the_uniform_one(tmp_path: Path):
    frame = _ratios()
    ratios_figure(frame, tmp_path / "ratios.svg")
    texts = _texts(tmp_path / "ratios.svg")
    for name, ratio in zip(frame["layer"], frame["prune_ratio"], strict=True):
        assert name.removesuffix(".weight") in texts
        assert f"{ratio:.3f}" in texts
    zeros = round(float((frame["prune_ratio"] * frame["weights"]).sum()))
    assert f"uniform: {zeros / frame['weights'].sum():.4g}" in texts
    assert "prune ratio (share of zero weights)" in texts
    assert "weights (thousands)" in texts


def test_ratios_bars_are_as_long_as_the_ratios(tmp_path: Path):
    frame = _ratios(3)
    ratios_figure(frame, tmp_path / "ratios.svg")
    root = ET.parse(tmp_path / "ratios.svg").getroot()
    blue = [
        node.attrib["d"].replace("L", " ").replace("M", " ").replace("z", " ").split()
        for node in root.iter(f"{SVG}path")
        if "fill: #0072b2" in node.attrib.get("style", "").lower()
    ][:3]
    lengths = [max(map(float, d[::2])) - min(map(float, d[::2])) for d in blue]
    expected = frame["prune_ratio"] / frame["prune_ratio"].iloc[0] * lengths[0]
    np.testing.assert_allclose(lengths, expected, rtol=1e-4)


def test_schedule_leaves_other_phases_out_and_marks_the_end(tmp_path: Path):
    schedule_figure(_metrics(), tmp_path / "schedule.svg")
    texts = _texts(tmp_path / "schedule.svg")
    assert "0.75" in texts
    assert "optimizer step" in texts
    steps = [int(text) for text in texts if text.isdigit()]
    assert steps
    assert max(steps) <= 1000


def test_schedule_draws_the_counted_share_as_steps_and_an_older_log_as_planned(tmp_path: Path):
    frame = _metrics()
    schedule_figure(frame, tmp_path / "schedule.svg")
    assert {"planned", "counted"} <= set(_texts(tmp_path / "schedule.svg"))
    drawn = _path_points(tmp_path / "schedule.svg", "#d55e00")
    turns = [(x, y) for x, y in zip(np.diff(drawn[:, 0]), np.diff(drawn[:, 1]), strict=True)]
    assert len(turns) > 10
    assert all(abs(x) < 1e-6 or abs(y) < 1e-6 for x, y in turns)  # across or up, never both
    older = frame.drop(columns="prune/planned")
    schedule_figure(older, tmp_path / "older.svg")
    assert "counted" not in _texts(tmp_path / "older.svg")


def test_schedule_without_sparsity_shows_the_loss(tmp_path: Path):
    schedule_figure(_metrics(sparse=False), tmp_path / "schedule.svg")
    assert "loss (nats)" in _texts(tmp_path / "schedule.svg")


def test_frontier_draws_what_was_predicted_and_measured_over_ln_density(tmp_path: Path):
    rows = {"target": [0.5, 0.75, 0.875], "predicted_reward": [0.9, 0.8, 0.7]}
    rows |= {"reward": [0.95, 0.75, float("nan")], "accuracy": [0.6, 0.5, float("nan")]}
    path = tmp_path / "frontier.svg"
    frontier_figure(pd.DataFrame(rows), path, metric="F1")
    texts = _texts(path)
    assert {"0.5", "0.875", "predicted", "measured", "reward", "F1"} <= set(texts)
    line, _ = (
        node.attrib["d"]
        for node in ET.parse(path).getroot().iter(f"{SVG}path")
        if "dasharray" in node.attrib.get("style", "") and node.attrib["d"].count("L") == 2
    )  # and the legend's
    points = np.array(line.replace("L", " ").replace("M", " ").split(), float).reshape(-1, 2)
    steps = np.diff(points[:3, 0])  # densities 1/2, 1/4, 1/8
    assert steps[0] == pytest.approx(steps[1], abs=1e-3)
    assert np.diff(points[:3, 1], 2) == pytest.approx([0.0], abs=1e-3)


def test_policy_names_targets_and_layers(tmp_path: Path):
    table = pd.DataFrame({"layer": ["a.weight", "b.weight"], "density/0.9": [0.1, 0.2]})
    curves = pd.DataFrame({"density": [0.1, 0.5, 1.0], "a": [0.3, 0.1, 0], "b": [0.2, 0.1, 0]})
    path = tmp_path / "policy.svg"
    policy_figure(table, curves, path)
    assert {"0.9", "a", "b", "own divergence", "target"} <= set(_texts(path))


def test_search_marks_failures_and_the_chosen(tmp_path: Path):
    search_figure(_rollouts(), tmp_path / "search.svg")
    texts = _texts(tmp_path / "search.svg")
    for label in ("best so far", "prior", "warm-up", "agent", "final", "failed", "chosen"):
        assert label in texts


def test_rescored_rows_choose_by_profile_but_are_not_drawn(tmp_path: Path):
    searched = _rollouts(**{"zeros/a": [1, 2, 3, 4, 5, 6], "zeros/b": [6, 5, 4, 3, 2, 1]})
    again = pd.DataFrame({"rollout": [6, 7], "kind": "select", "reward": [0.1, 0.99], "failed": ""})
    again = again.assign(**{"zeros/a": [4, 6], "zeros/b": [3, 1]})
    search_figure(pd.concat([searched, again], ignore_index=True), tmp_path / "by_rescore.svg")
    search_figure(searched, tmp_path / "by_hand.svg", chosen=5)
    search_figure(searched, tmp_path / "by_reward.svg")
    search_figure(searched, tmp_path / "by_hand_3.svg", chosen=3)
    assert (tmp_path / "by_rescore.svg").read_bytes() == (tmp_path / "by_hand.svg").read_bytes()
    assert (tmp_path / "by_reward.svg").read_bytes() == (tmp_path / "by_hand_3.svg").read_bytes()
    assert (tmp_path / "by_hand.svg").read_bytes() != (tmp_path / "by_hand_3.svg").read_bytes()


def test_a_hopeless_rollout_does_not_squeeze_the_others(tmp_path: Path):
    search_figure(_rollouts(reward=[-0.6, -900.0, -0.5, -0.1, np.nan, -0.2]), tmp_path / "s.svg")
    texts = _texts(tmp_path / "s.svg")
    assert "far lower" in texts
    assert not any("800" in text for text in texts)


def test_a_run_draws_what_its_files_allow(tmp_path: Path):
    assert draw_all(tmp_path) == []
    log = MetricsLog(tmp_path / "metrics.csv")
    log.log({"step": 1, "phase": "dense", "train/loss": 1.0})
    log.log({"step": 2, "phase": "dense", "train/loss": 0.5, "select/accuracy": 0.5})
    assert [path.name for path in draw_all(tmp_path)] == ["schedule.svg"]
    (tmp_path / "ratios.csv").write_text(to_csv(_ratios(4)))
    _rollouts().to_csv(tmp_path / "rollouts.csv", index=False)
    drawn = draw_all(tmp_path)
    assert [path.name for path in drawn] == ["ratios.svg", "schedule.svg", "search.svg"]
    search_figure(_rollouts(), tmp_path / "direct.svg")
    assert drawn[2].read_bytes() == (tmp_path / "direct.svg").read_bytes()
