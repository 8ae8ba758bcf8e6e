"""Processes of Ray that outlive their session are ended; no others are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import alive
from ws_learner.training.ray.leftovers import RayProcess, end_leftovers, ray_processes

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


@pytest.fixture
def sleepers() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    made = {name: subprocess.Popen([name, "60"], executable="/bin/sleep")
            for name in ("ray::TrainController", "another")}  # fmt: skip
    yield made
    for process in made.values():
        process.kill()
        process.wait()


def test_only_rays_own_are_found_and_ended(
    sleepers: dict[str, subprocess.Popen[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = sleepers["ray::TrainController"]
    found = [one for one in ray_processes(os.getpid()) if one.pid in (ours.pid,)]
    assert [one.pid for one in found] == [ours.pid]
    assert sleepers["another"].pid not in [one.pid for one in ray_processes(os.getpid())]
    end_leftovers(found, grace=0.1)
    assert ours.wait(timeout=5) == -9
    assert alive(sleepers["another"].pid)
    assert "Ray left 1 of its processes behind" in capsys.readouterr().err


def test_one_that_ends_by_itself_is_not_mentioned(
    sleepers: dict[str, subprocess.Popen[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = sleepers["ray::TrainController"]
    found = [one for one in ray_processes(os.getpid()) if one.pid == ours.pid]
    ours.terminate()
    ours.wait()
    end_leftovers(found)
    assert "behind" not in capsys.readouterr().err


def test_a_later_process_with_the_same_number_is_left_alone(
    sleepers: dict[str, subprocess.Popen[bytes]],
) -> None:
    ours = sleepers["ray::TrainController"]
    end_leftovers([RayProcess(ours.pid, start="0")], grace=0.0)
    assert alive(ours.pid)
