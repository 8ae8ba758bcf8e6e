"""The training log: tidy rows, the same file after any interruption."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ws_learner.core.errors import UserError
from ws_learner.report.metrics import SCALARS, MetricsLog, read_metrics


def _row(step: int, phase: str = "sparse") -> dict[str, float | int | str]:
    row: dict[str, float | int | str] = {
        "step": step,
        "epoch": step // 3,
        "phase": phase,
        "train/loss": 1 / (step + 3),
    }
    if step % 3 == 0:
        row["select/accuracy"] = 0.1 * step / 7
    return row


def _write(path: Path, rows: list[dict[str, float | int | str]]) -> bytes:
    log = MetricsLog(path)
    for row in rows:
        log.log(row)
    return path.read_bytes()


def test_columns_are_the_union_in_a_fixed_order(tmp_path: Path):
    one, two = tmp_path / "1.csv", tmp_path / "2.csv"
    a = {"step": 1, "select/accuracy": 0.5}
    b = {"step": 2, "train/loss": 0.25, "phase": "dense", "epoch": 0}
    _write(one, [a, b])
    _write(two, [b, a])
    for path in (one, two):
        with path.open(newline="") as file:
            header = next(csv.reader(file))
        assert header == ["step", "epoch", "phase", "train/loss", "select/accuracy"]
    frame = read_metrics(one)
    assert frame["step"].tolist() == [1, 2]
    np.testing.assert_array_equal(frame["train/loss"], [np.nan, 0.25])
    np.testing.assert_array_equal(frame["select/accuracy"], [0.5, np.nan])
    assert frame["phase"].tolist() == ["", "dense"]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_numbers_read_back_exactly(tmp_path_factory, values: list[float]):
    path = tmp_path_factory.mktemp("log") / "metrics.csv"
    _write(path, [{"step": i, "train/loss": np.float64(v)} for i, v in enumerate(values)])
    assert read_metrics(path)["train/loss"].tolist() == values


def test_frame_is_what_the_file_says(tmp_path: Path):
    log = MetricsLog(tmp_path / "metrics.csv")
    for step in range(5):
        log.log(_row(step))
    assert log.frame().equals(read_metrics(tmp_path / "metrics.csv"))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 400), st.integers(0, 11))
def test_resume_after_a_cut_anywhere_gives_the_same_file(tmp_path_factory, cut: int, back: int):
    folder = tmp_path_factory.mktemp("log")
    rows = [_row(step) for step in range(12)]
    whole = _write(folder / "whole.csv", rows)
    path = folder / "cut.csv"
    path.write_bytes(whole[:cut])
    log = MetricsLog(path)
    present = log.frame()["step"].tolist() if cut else []
    resumed_at = min(back, len(present) - 1)
    log.truncate_after(resumed_at)
    for row in rows[resumed_at + 1 :]:
        log.log(row)
    assert path.read_bytes() == whole


def test_truncation_within_a_phase_keeps_what_came_before(tmp_path: Path):
    dense = [_row(step, "dense") for step in range(8)]
    sparse = [_row(step, "sparse") for step in range(5)]
    path = tmp_path / "metrics.csv"
    _write(path, dense + sparse)
    MetricsLog(path).truncate_after(2, phase="sparse")
    assert path.read_bytes() == _write(tmp_path / "a.csv", dense + sparse[:3])
    MetricsLog(path).truncate_after(0, phase="unseen")
    assert path.read_bytes() == _write(tmp_path / "b.csv", dense + sparse[:3])
    MetricsLog(path).truncate_after(6, phase="dense")
    assert path.read_bytes() == _write(tmp_path / "c.csv", dense[:7])


def test_a_column_that_loses_all_its_values_goes(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path)
    log.log({"step": 1, "train/loss": 1.0})
    log.log({"step": 2, "test/accuracy": 0.5})
    log.truncate_after(1)
    assert path.read_text() == "step,epoch,phase,train/loss\n1,,,1.0\n"


def test_undocumented_scalars_are_refused(tmp_path: Path):
    log = MetricsLog(tmp_path / "metrics.csv")
    with pytest.raises(ValueError, match=r"'train/los'.*did you mean train/loss\?"):
        log.log({"step": 1, "train/los": 1.0})
    with pytest.raises(ValueError, match="needs the key `step`"):
        log.log({"train/loss": 1.0})
    assert not (tmp_path / "metrics.csv").exists()
    assert all(len(meaning) > 15 for meaning in SCALARS.values())


def test_a_foreign_file_is_left_alone(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    for content in (b"a,b\n1,2\n", b"\x80\x81\n"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"metrics\.csv.*move it away"):
            MetricsLog(path)
        assert path.read_bytes() == content
