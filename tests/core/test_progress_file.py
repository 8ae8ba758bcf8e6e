"""The writer of `progress.jsonl`: states, resumed files, full disks, workers, the rate of lines."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from ws_learner.core import log_progress, plan_phases, track
from ws_learner.core.progress_file import ProgressFile
from ws_learner.report import last_progress, read_progress


def states(folder: Path) -> list[str]:
    return [line.state for line in read_progress(folder / "progress.jsonl")]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "finished"),
        (KeyboardInterrupt(), "stopped"),
        (SystemExit(1), "stopped"),
        (ValueError("wrong"), "failed"),
    ],
)
def test_the_last_state_is_how_it_ended(
    error: BaseException | None, state: str, tmp_path: Path
) -> None:
    def work() -> None:
        with log_progress(tmp_path, finished=lambda: True), track("work", total=2) as progress:
            progress.advance()
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    assert states(tmp_path) == ["running", "running", "running", state]
    last = last_progress(tmp_path / "progress.jsonl")
    assert last is not None
    assert (last.event, last.description, last.done) == ("state", "work", 1)


def test_work_that_ends_before_the_run_has_stopped(tmp_path: Path) -> None:
    with log_progress(tmp_path, finished=lambda: False):
        pass
    assert states(tmp_path) == ["running", "stopped"]


def test_a_process_that_goes_on_appends_after_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    with log_progress(tmp_path, finished=lambda: False):
        pass
    before = path.read_text()
    path.write_text(before + '{"time": 1796072345.')
    with log_progress(tmp_path, finished=lambda: True):
        pass
    assert path.read_text().startswith(before)
    assert states(tmp_path) == ["running", "stopped", "running", "finished"]


def test_a_full_disk_is_said_once_and_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))  # a line at each advance
    path = tmp_path / "progress.jsonl"
    path.symlink_to("/dev/full")
    with log_progress(tmp_path, finished=lambda: True), track("work", total=5) as progress:
        progress.advance()
        progress.advance()
        path.unlink()  # there is space again
        progress.advance()
    said = [line for line in capsys.readouterr().err.splitlines() if "progress cannot" in line]
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert [line.done for line in read_progress(path)] == [3, 3]


def test_a_forked_worker_writes_nothing(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "progress.jsonl")
    file.line("state")
    child = os.fork()
    if not child:
        file.line("state")
        os._exit(0)
    os.waitpid(child, 0)
    file.close("finished")
    assert [line.state for line in read_progress(file.path)] == ["running", "finished"]


def test_lines_are_a_second_apart_but_for_the_first_and_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with log_progress(tmp_path, finished=lambda: True), track("work", total=105) as progress:
        for _ in range(105):
            now[0] += 0.101
            progress.advance()
    lines = [line for line in read_progress(tmp_path / "progress.jsonl") if line.event != "state"]
    times = [line.elapsed_s for line in lines]
    assert len(lines) == 12  # the first, ten in ten seconds, the last
    assert all(b - a >= 1 for a, b in pairwise(times[:-1]))
    assert lines[-1].done == lines[-1].total == 105


def test_progress_costs_little(tmp_path: Path) -> None:
    """100,000 advances, the steps of a long training, are below 10 us each."""
    with log_progress(tmp_path, finished=lambda: True), plan_phases(["training"]):
        begun = time.process_time()
        with track("training", total=100_000, phase="training") as progress:
            for _ in range(100_000):
                progress.advance()
        assert time.process_time() - begun < 1.0
