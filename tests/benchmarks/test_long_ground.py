"""The long measurements: slopes, readings of processes, files that several calls write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import long_search
from benchmarks.long_options import Options
from benchmarks.long_report import longest_session, print_report
from benchmarks.process_readings import bytes_below, files_below, read_processes, resident
from benchmarks.readings_file import ReadingsFile
from benchmarks.trend import trend


def test_a_line_has_its_slope_and_a_constant_is_flat() -> None:
    x = [float(value) for value in range(10)]
    line = trend(x, [3 + 2 * value for value in x])
    assert line.slope == pytest.approx(2)
    assert line.level == pytest.approx(12)
    assert not line.flat
    assert trend(x, [5.0] * 10).flat
    with pytest.raises(ValueError, match="needs 3"):
        trend(x[:2], x[:2])


def test_the_interval_of_a_slope_covers_the_truth_19_times_in_20() -> None:
    rng, x = np.random.default_rng(0), np.arange(20.0)
    covered = 0
    for _ in range(400):
        found = trend(x.tolist(), (0.3 * x + rng.normal(size=20)).tolist())
        covered += found.low <= 0.3 <= found.high
    assert 0.92 <= covered / 400 <= 0.98  # 0.95, and three standard errors of 0.011


def test_a_child_counts_as_a_process_and_its_memory_as_that_of_others() -> None:
    before = read_processes()
    code = "import sys; kept = bytes(50_000_000); print('up', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:  # type: ignore[call-overload]
        child.stdout.readline()
        during = read_processes()
        child.stdin.close()
    assert during.processes == before.processes + 1
    assert during.descriptors == before.descriptors + 2
    assert during.others_mib > before.others_mib
    assert resident(child.pid) == 0
    assert during.driver_mib == pytest.approx(resident(os.getpid()), rel=0.1)


def test_files_and_bytes_are_counted_below_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one").write_bytes(b"12345")
    (tmp_path / "two").write_bytes(b"123")
    assert files_below([tmp_path]) == 2
    assert files_below([tmp_path / "a", tmp_path / "missing"]) == 1
    assert bytes_below(tmp_path) == 8


def test_the_report_takes_the_longest_session_without_its_warm_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for first, readings in ((25, 2), (75, 10)):
        file = ReadingsFile(tmp_path / "ray.csv")
        for run in range(first, first + 25 * readings, 25):
            file.add({"run": run, "driver_mib": 0.02 * run, "processes": 7})
    rows = ReadingsFile(tmp_path / "ray.csv").rows()
    assert [row["session"] for row in rows] == ["1"] * 2 + ["2"] * 10
    assert [row["run"] for row in longest_session(rows)] == [str(r) for r in range(175, 301, 25)]
    capsys.readouterr()
    print_report(tmp_path)
    out = capsys.readouterr().out
    assert "| driver_mib | 4.75 | +20 |" in out
    assert "| processes | 7 | +0 | +0 to +0 | yes |" in out


def test_a_long_search_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_search, "_STEP", 10)
    place = {"out": tmp_path, "work": tmp_path / "work"}
    for rollouts in (20, 30):
        long_search.run_search("evolution", Options(part="search", rollouts=rollouts, **place))
    rows = ReadingsFile(tmp_path / "search_evolution.csv").rows()
    counts = [int(row["rollouts"]) for row in rows]
    assert counts == sorted(set(counts))
    assert counts[-1] == 30
    assert [row["session"] for row in rows] == sorted(row["session"] for row in rows)
    assert rows[-1]["session"] == "2"
    table = (tmp_path / "work" / "evolution" / "rollouts.csv").read_text().splitlines()
    assert len(table) == 1 + 30
