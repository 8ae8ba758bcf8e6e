"""The driver follows ranks by the rows of their `metrics.csv`."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest

from ws_learner.core import log_progress, plan_phases
from ws_learner.report import MetricsLog, read_progress
from ws_learner.training.ray import follow_metrics
from ws_learner.training.ray.follow_metrics import followed, last_row


def rows(path: Path, *steps: int, phase: str = "sparse") -> None:
    log = MetricsLog(path)
    for step in steps:
        log.log({"step": step, "epoch": 1, "phase": phase, "train/loss": 1 / step})


def test_the_last_row_of_a_training_is_found(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    assert last_row(path, "sparse") == (0, None)
    rows(path, *range(1, 500), phase="dense")
    assert last_row(path, "sparse") == (0, None)
    rows(path, 10, 20)
    MetricsLog(path).log({"step": 20, "phase": "sparse", "select/accuracy": 0.5})
    step, loss = last_row(path, "sparse")
    assert (step, loss) == (20, pytest.approx(0.05))
    with path.open("a") as file:
        file.write("30,1,spar")  # rank 0 is writing
    assert last_row(path, "sparse")[0] == 20


def test_progress_follows_the_rows_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    looked = threading.Semaphore(0)

    def look(path: Path, name: str) -> tuple[int, float | None]:
        found = last_row(path, name)
        looked.release()
        return found

    monkeypatch.setattr(follow_metrics, "_SECONDS", 0.01)
    monkeypatch.setattr(follow_metrics, "last_row", look)
    metrics = tmp_path / "metrics.csv"
    rows(metrics, 10)  # of an earlier process
    with (
        log_progress(tmp_path, finished=lambda: True),
        plan_phases(["training", "report"]),
        followed(metrics, name="sparse", phase="training", total=40),
    ):
        assert looked.acquire(timeout=30)  # it has seen where the earlier process was
        for step in (20, 30, 40):
            rows(metrics, step)
            for _ in range(2):
                assert looked.acquire(timeout=30)
    lines = [line for line in read_progress(tmp_path / "progress.jsonl") if line.phase]
    assert [line.number for line in lines] == [1] * len(lines)
    assert lines[0].done == 10
    assert all(a.done <= b.done for a, b in pairwise(lines))
    assert lines[-1].done == lines[-1].total == 40
    assert lines[-2].values["loss"] == pytest.approx(1 / 40)
    assert capsys.readouterr().err == ""
