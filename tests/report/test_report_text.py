"""What people read at the end holds the numbers of the files, wherever they read it."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.problem import LayerRow
from ws_learner.report.figures import draw_all
from ws_learner.report.markdown import write_report
from ws_learner.report.metrics import MetricsLog
from ws_learner.report.table import ratio_table, to_csv
from ws_learner.report.terminal import print_summary

SUMMARY = {
    "experiment": "resnet_at_cifar10",
    "learner": "weight-sparse",
    "protocol": "optimal",
    "method": "gradual",
    "pattern": "unstructured",
    "target_prune_ratio": 0.5,
    "achieved_prune_ratio": 0.5,
    "dense_accuracy": 0.9192,
    "sparse_accuracy": 0.9145,
    "dense_macs": 444928,
    "kept_macs": 222464,
    "rollouts": 3,
    "search_seconds": 701.4,
    "train_seconds": 3725.0,
    "seed": 7,
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "command": "./run_local.sh resnet_at_cifar10 --ws_prune_ratio 0.5 --seed 7",
    "init": "the dense checkpoint",
    "hardware": "2 cores",
    "something_new": [1, 2],
}


def _frame():
    layers = (
        LayerRow(
            name="conv1.weight", kind="conv2d", role="conv",
            shape=(16, 3, 3, 3), weights=432, macs=442368,
        ),
        LayerRow(
            name="fc|x.weight", kind="linear", role="head", shape=(10, 256), weights=2560, macs=2560
        ),
    )  # fmt: skip
    state = {row.name: torch.ones(row.shape) for row in layers}
    state["conv1.weight"].view(-1)[:216] = 0
    state["fc|x.weight"].view(-1)[:1280] = 0
    return ratio_table(layers, np.array([216, 1280]), state)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "config.yaml").write_text("ws_prune_ratio: 0.5\n")
    (tmp_path / "ratios.csv").write_text(to_csv(_frame()))
    (tmp_path / "rollouts.csv").write_text(
        "rollout,kind,reward,failed,zeros/conv1.weight,zeros/fc|x.weight\n"
        "0,prior,0.7,,200,1296\n1,agent,0.6,,300,1196\n2,agent,0.81,,216,1280\n"
        "3,agent,-inf,killed,0,1496\n4,select,0.5,,200,1296\n5,select,0.55,,216,1280\n"
    )
    log = MetricsLog(tmp_path / "metrics.csv")
    for step in range(4):
        log.log({"step": step, "phase": "sparse", "prune/ratio": step / 6, "train/loss": 1.0})
    return tmp_path


def _tables(text: str) -> list[list[list[str]]]:
    """All Markdown tables as lists of rows of cells."""
    tables: list[list[list[str]]] = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        tables.append([[cell.strip() for cell in row] for row in rows if "--" not in row[0]])
    return tables


def test_the_report_holds_the_numbers_of_the_files(run_dir: Path):
    text = write_report(run_dir).read_text()
    results = {row[0]: row[1] for row in _tables(text)[0]}
    assert results["dense accuracy (test)"] == "91.92 %"
    assert results["sparse accuracy (test)"] == "91.45 %"
    assert results["change"] == f"{100 * (0.9145 - 0.9192):+.2f} points"
    assert results["search time"] == "11 min 41 s"
    assert results["training time"] == "1 h 02 min"
    assert results["rollouts"] == "3"
    for part in (SUMMARY["command"], "ws_prune_ratio: 0.5", "2.13.0", "seed is 7", "2 cores"):
        assert str(part) in text


def test_the_report_adds_the_layers_up_itself(run_dir: Path):
    text = write_report(run_dir).read_text()
    with (run_dir / "ratios.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    weights = sum(int(row["weights"]) for row in rows)
    zeros = sum(round(float(row["achieved"]) * int(row["weights"])) for row in rows)
    kept = sum(int(row["macs_kept"]) for row in rows)
    results = {row[0]: row[1] for row in _tables(text)[0]}
    assert results["zero weights"] == f"{zeros:,} of {weights:,}"
    head, *body, total = _tables(text)[1]
    for row, cells in zip(rows, body, strict=True):
        shown = dict(zip(head, cells, strict=True))
        assert shown["layer"].replace("\\", "") == row["layer"]
        assert shown["chosen"] == f"{float(row['prune_ratio']):.4f}"
        assert shown["achieved"] == f"{float(row['achieved']):.4f}"
        assert shown["MACs kept"] == f"{int(row['macs_kept']):,}"
    shown = {name: cell.strip("*") for name, cell in zip(head, total, strict=True)}
    assert shown["weights"] == f"{weights:,}"
    assert shown["achieved"] == f"{zeros / weights:.4f}"
    assert shown["MACs kept"] == f"{kept:,}"


def test_the_report_shows_search_splits_and_figures(run_dir: Path):
    draw_all(run_dir)
    text = write_report(run_dir).read_text()
    assert ["agent", "3", "0.7050", "0.8100"] in [row for t in _tables(text) for row in t]
    assert "1 could not be scored" in text
    assert "Chosen: rollout 2 (`agent`), reward 0.8100 on the search images, 0.5500 on" in text
    assert "scored again on the select images" in text
    for name in ("ratios", "schedule", "search"):
        assert f"](figures/{name}.svg)" in text
        assert (run_dir / "figures" / f"{name}.svg").exists()
    for split in ("train", "search", "select", "test"):
        assert any(row[0] == split for table in _tables(text) for row in table)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert all((run_dir / link).exists() for link in links)


def test_the_report_compares_what_the_policy_predicts_with_what_was_measured(run_dir: Path):
    assert "One search, any target" not in write_report(run_dir).read_text()
    rows = ["target,supplier,predicted_reward,reward,accuracy,zeros/a"]
    rows += ["0.5,critic,0.95,0.9375,0.875,10", "0.9,agent,0.5,,,20"]
    (run_dir / "frontier.csv").write_text("\n".join(rows) + "\n")
    critic = {"rounds": 3, "rollouts": 12, "rmse": 0.125, "correlation": None}
    critic |= {"within_1": 0.5, "within_2": 0.75}
    summary = json.loads((run_dir / "summary.json").read_text())
    more = {"critic": critic, "profile_by": "agent", "predicted_reward": 0.5}
    (run_dir / "summary.json").write_text(json.dumps(summary | more))
    text = write_report(run_dir).read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["0.5", "critic", "0.9500", "0.9375", "87.50 %"] in cells
    assert ["0.9", "agent", "0.5000", "failed", ""] in cells
    assert "any target from 0.5 to 0.9" in text
    assert "its 3 rounds the critic predicted the rollouts to come, 12 in all" in text
    assert "is 0.125. 50% lie within one and 75% within two" in text
    assert ["profile by", "agent, predicted reward 0.5000"] in cells


def test_the_report_is_a_function_of_the_files(run_dir: Path):
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first
    summary = {**SUMMARY, "sparse_accuracy": 0.5, "split_sizes": {"test": 10_000}}
    (run_dir / "summary.json").write_text(json.dumps(summary))
    text = write_report(run_dir).read_text()
    assert "50.00 %" in text
    assert "91.45 %" not in text
    assert "10,000" in text


def test_a_dense_run_has_a_report_too(tmp_path: Path):
    summary = {"experiment": "resnet_at_cifar10", "learner": "full-prec", "dense_accuracy": 0.92}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    text = write_report(tmp_path).read_text()
    assert text.startswith("# resnet_at_cifar10: dense training\n")
    assert "92.00 %" in text
    assert "## Layers" not in text
    assert "rollout" not in text
    (tmp_path / "summary.json").write_text("{}")
    assert write_report(tmp_path).read_text().startswith("# network\n")


def test_logs_get_plain_aligned_text(capsys: pytest.CaptureFixture[str]):
    print_summary(SUMMARY, _frame())
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert "\x1b" not in printed
    table = printed.split("\n\n")[1].splitlines()
    assert len({len(line) for line in table}) == 1
    assert table[1].split() == [
        "conv1.weight", "conv", "16x3x3x3", "432", "0.5000", "0.5000", "442,368", "221,184",
    ]  # fmt: skip
    assert table[-1].split() == ["total", "2,992", "0.5000", "0.5000", "444,928", "222,464"]
    assert re.search(r"sparse accuracy \(test\) +91\.45 %", printed)


def test_a_terminal_gets_the_same_numbers(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_summary(SUMMARY, _frame())
    assert "\x1b[" in screen.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    for part in ("fc|x.weight", "10x256", "221,184", "222,464", "91.45 %", "1 h 02 min", "total"):
        assert part in plain


def test_a_summary_without_layers_prints(capsys: pytest.CaptureFixture[str]):
    print_summary({"experiment": "x", "learner": "full-prec", "dense_accuracy": 1.0})
    assert capsys.readouterr().out == "x: dense training\n\ndense accuracy (test)  100.00 %\n"


ERROR = {
    **{name: value for name, value in SUMMARY.items() if "accuracy" not in name},
    "metric": "MSE",
    "metric_unit": "K^2",
    "higher_is_better": False,
    "dense_metric": 65.5527,
    "sparse_metric": 81.43,
}


def test_an_error_is_no_percentage_and_more_of_it_is_worse(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
):
    (run_dir / "summary.json").write_text(json.dumps(ERROR))
    text = write_report(run_dir).read_text()
    results = {row[0]: row[1] for row in _tables(text)[0]}
    assert results["dense MSE (test)"] == "65.5527 K^2"
    assert results["sparse MSE (test)"] == "81.43 K^2"
    assert results["change"] == "+15.88 K^2 (worse)"
    assert "the test MSE is 81.43 K^2" in text
    assert "Lower is better." in text
    assert "accuracy" not in text
    print_summary(ERROR)
    printed = capsys.readouterr().out
    assert "accuracy" not in printed
    assert "points" not in printed
    better = {**ERROR, "sparse_metric": 65.0527}
    print_summary(better)
    assert "-0.5 K^2 (better)" in capsys.readouterr().out


def test_an_error_rate_is_a_percentage_of_which_more_is_worse(capsys: pytest.CaptureFixture[str]):
    rate = {"metric": "WER", "metric_unit": "share", "dense_metric": 0.1, "sparse_metric": 0.125}
    print_summary({"higher_is_better": False, **rate})
    printed = capsys.readouterr().out
    assert re.search(r"sparse WER \(test\) +12\.50 %", printed)
    assert "+2.50 points (worse)" in printed


def test_the_figure_of_another_metric_is_drawn(run_dir: Path):
    (run_dir / "summary.json").write_text(json.dumps(ERROR))
    log = MetricsLog(run_dir / "metrics.csv")
    log.log({"step": 4, "phase": "sparse", "prune/ratio": 0.5, "select/metric": 70.0})
    draw_all(run_dir)
    drawn = (run_dir / "figures" / "schedule.svg").read_text()
    assert "MSE" in drawn
    assert "accuracy" not in drawn


def test_layers_with_choices_of_their_own_show_them(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
):
    frame = _frame().assign(pattern=["4x1", "unstructured"], dtype=["int8", "fp32"])
    frame["predicted_ms"] = [0.25, 1.5]
    (run_dir / "ratios.csv").write_text(to_csv(frame))
    layers = _tables(write_report(run_dir).read_text())[1]
    assert [row[-3:] for row in layers] == [
        ["pattern", "dtype", "predicted ms"],
        ["4x1", "int8", "0.25"],
        ["unstructured", "fp32", "1.5"],
        ["", "", "**1.75**"],
    ]
    print_summary(SUMMARY, frame)
    printed = capsys.readouterr().out
    assert re.search(r"conv1\.weight .* 4x1 +int8 +0\.25\n", printed)
