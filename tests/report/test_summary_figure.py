"""The picture of a run shows the numbers of its own files, whole, small, on a white ground."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.report_runs import write_run
from ws_learner.core import UserError, read_json
from ws_learner.report import draw_all, draw_summary, read_table, write_report

SVG = "{http://www.w3.org/2000/svg}"
MEASURED = [
    {"budget": "bytes=0.15", "unit": "bytes", "most": 150_000.0, "finished": 140_000.0},
    {"budget": "latency=0.25@wsr", "unit": "latency@wsr", "most": 1.25, "finished": 1.125},
]


def texts(path: Path) -> list[str]:
    root = ET.parse(path).getroot()
    return ["".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")]


def picture(run: Path) -> list[str]:
    return texts(draw_summary(run, run.parent / f"{run.name}.svg"))


def test_its_numbers_are_those_of_the_runs_files(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", budget_parts=MEASURED)
    summary, frame = read_json(run / "summary.json"), read_table(run / "ratios.csv")
    shown = picture(run)
    for key in ("dense_metric", "sparse_metric"):
        assert f"{100 * summary[key]:.2f} %" in shown
    for layer, achieved in zip(frame["layer"], frame["achieved"], strict=True):
        assert layer.removesuffix(".weight") in shown
        assert f"{achieved:.3f}" in shown
    overall = 100 * summary["achieved_prune_ratio"]
    assert f"share of zero weights (dashed: of all layers, {overall:.4g} %)" in shown
    # Most is the share of the dense cost: 150 kB / 0.15 and 1.25 ms / 0.25.
    assert {"1 MB", "0.14 MB", "5 ms", "1.12 ms"} <= set(shown)
    assert {"accuracy (test)", "latency in our runtime"} <= set(shown)


def test_bars_are_as_long_as_their_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", budget_parts=MEASURED)
    draw_summary(run, tmp_path / "one.svg")
    lengths = {"#0072b2": list[float](), "#767676": list[float]()}
    for node in ET.parse(tmp_path / "one.svg").getroot().iter(f"{SVG}path"):
        style = node.attrib.get("style", "").lower()
        for colour, found in lengths.items():
            if f"fill: {colour}" in style:
                corners = node.attrib["d"].replace("L", " ").replace("M", " ").replace("z", " ")
                across = [float(word) for word in corners.split()][::2]
                found.append(max(across) - min(across))
    ratios = read_table(run / "ratios.csv")["achieved"]
    count = len(ratios)
    drawn = np.array(lengths["#0072b2"][:count])  # the ratios come first
    np.testing.assert_allclose(drawn / drawn[0], ratios / ratios[0], rtol=1e-3)
    pairs = np.array(lengths["#0072b2"][count:]) / np.array(lengths["#767676"])
    np.testing.assert_allclose(pairs, [0.9112 / 0.9237, 0.14, 0.225], rtol=1e-3)


@pytest.mark.long
def test_a_latency_that_was_not_measured_says_how_to(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    shown = picture(run)
    assert any("ws-learner export RUN --to deploy" in text for text in shown)
    frame = read_table(run / "ratios.csv")
    zeros = round(float((frame["achieved"] * frame["weights"]).sum()))
    weights = int(frame["weights"].sum())
    assert {"nonzero weights", f"{weights:,}", f"{weights - zeros:,}"} <= set(shown)
    (run / "deploy").mkdir()
    record = {
        "engine": "wsr",
        "batch": 8,
        "measured_ms": {"median": 2.5},
        "pytorch_ms": {"median": 7.5},
    }
    (run / "deploy" / "deploy.json").write_text(json.dumps(record))
    assert {"latency, batch 8", "dense PyTorch", "7.5 ms", "our runtime", "2.5 ms"} <= set(
        picture(run)
    )


@pytest.mark.parametrize(
    ("part", "dense"),
    [
        ({"budget": "latency=8ms@torch", "unit": "latency@torch", "most": 8, "finished": 7}, 0),
        ({"budget": "latency=1@wsr", "unit": "latency@wsr", "most": 8, "finished": 7}, 8),
        ({"budget": "latency=3e-05", "unit": "latency@wsr", "most": 3, "finished": 3}, 1e5),
        ({"budget": "latency=0@wsr", "unit": "latency@wsr", "most": 8, "finished": 7}, 0),
    ],
)
def test_the_dense_cost_is_drawn_where_a_share_tells_it(
    tmp_path: Path, part: dict[str, Any], dense: float
) -> None:
    shown = picture(write_run(tmp_path / "one", budget_parts=[part]))
    assert f"{part['finished']} ms" in shown
    assert shown.count("dense") == (3 if dense else 2)
    assert not dense or f"{dense:.3g} ms" in shown


def test_other_metrics_and_int8(tmp_path: Path) -> None:
    facts = {"metric": "MSE $x", "metric_unit": "K^2", "higher_is_better": False}
    values = {"dense_metric": 2.0, "sparse_metric": 2.5, "int8_metric": 2.75}
    shown = picture(write_run(tmp_path / "one", **facts, **values))
    assert {"MSE $x (test, lower is better)", "2 K^2", "2.5 K^2", "2.75 K^2"} <= set(shown)
    assert "in INT8" in shown


@pytest.mark.long
def test_it_is_small_white_and_the_same_each_time(tmp_path: Path) -> None:
    for count in (1, 40, 500):
        names = [f"encoder.layers.{n}.attention.projection.weight" for n in range(count)]
        run = write_run(tmp_path / f"run{count}", names=names, rollouts=2)
        one, two = tmp_path / "1.svg", tmp_path / "2.svg"
        draw_summary(run, one)
        draw_summary(run, two)
        assert one.read_bytes() == two.read_bytes()
        assert len(one.read_bytes()) < 60_000
        ground = next(ET.parse(one).getroot().iter(f"{SVG}path"))
        assert "fill: #ffffff" in ground.attrib["style"]  # the first patch is the whole page
        assert "opacity: 0" not in ground.attrib["style"]
        assert (f"{count:,} layers, in forward order" in texts(one)) == (count > 40)


@pytest.mark.long
def test_a_run_has_it_and_the_report_shows_it_first(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    assert run / "figures" / "summary.svg" in draw_all(run)
    report = write_report(run).read_text()
    assert report.index("(figures/summary.svg)") < report.index("(figures/ratios.svg)")
    assert texts(run / "figures" / "summary.svg") == picture(run)


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="no finished run"):
        draw_summary(tmp_path / "run", tmp_path / "one.svg")


@pytest.mark.parametrize(
    "parts", [3, [3], [{}], [{"unit": "latency", "finished": "x"}], [{"unit": 3, "finished": 1}]]
)
def test_forged_budgets_are_left_out(tmp_path: Path, parts: Any) -> None:
    forged = write_run(tmp_path / "forged", budget_parts=parts, sparse_metric="much")
    assert any("not measured" in text for text in picture(forged))
