"""On Ray a driver, a rollout worker or a training rank is killed at any moment: the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.support.processes import alive, descendants, gone, processor_seconds
from tests.support.ray_hosts import ROOT
from tests.support.small_runs import RUNS, litter, results

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
TITLES = {"worker": b"ray::RolloutActor", "rank": b"ray::RayTrainWorker"}

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The same small run on Ray, one worker and one rank, in a folder of its own."""

    folder: Path
    said: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        object.__setattr__(self, "said", self.folder.with_suffix(".said"))

    def start(self) -> subprocess.Popen[bytes]:
        with self.said.open("w") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "experiments.distributed", "-n=1", *RUNS["zeros"]],
                env=os.environ
                | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
                | {"WS_CHECKPOINT_SECONDS": "0", "WS_DATA_DIR": str(self.folder / "cache")},
                cwd=self.folder,
                stdout=said,
                stderr=said,
            )

    def finish(self) -> float:
        """Run to the end; processor seconds it took."""
        driver = self.start()
        spent, _ = used(driver, most=float("inf"))
        assert driver.wait() == 0, self.said.read_text()
        return spent


def used(driver: subprocess.Popen[bytes], *, most: float) -> tuple[float, list[int]]:
    """Wait until a run ends or used `most` processor seconds; these, and its processes."""
    spent: dict[int, float] = {}
    while driver.poll() is None and sum(spent.values()) < most:
        for pid in (driver.pid, *descendants(driver.pid)):
            spent[pid] = max(spent.get(pid, 0.0), processor_seconds(pid))
        time.sleep(0.05)
    return sum(spent.values()), [pid for pid in spent if pid != driver.pid]


def stage(folder: Path) -> str:
    names = sorted(path.name for path in folder.rglob("state/*") if path.name[0] != ".")
    return " ".join(names) or "before the dense checkpoint"


def victim_of(driver: subprocess.Popen[bytes], kind: str) -> int | None:
    """Wait for such a process; None if the run ends without one."""
    while driver.poll() is None:
        for pid in descendants(driver.pid):
            try:
                title = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(TITLES[kind]) and alive(pid):
                return pid
        time.sleep(0.02)
    return None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], float]:
    run = Run(folder=tmp_path_factory.mktemp("whole") / "work")
    seconds = run.finish()
    return results(run.folder / "run"), seconds


def test_a_driver_at_any_moment(whole: tuple[dict[str, object], float], tmp_path: Path) -> None:
    """Killed again and again, it leaves no process, and the same command ends with the same."""
    expected, seconds = whole
    draw, met = np.random.default_rng(4), []
    run = Run(folder=tmp_path / "work")
    for place in range(9):
        number = SIGNALS[place % 3]
        driver = run.start()
        _, below = used(driver, most=float(draw.uniform(0.1, 0.9)) * seconds)
        driver.send_signal(number)
        code = driver.wait()
        assert gone(below, seconds=90)
        said = run.said.read_text()
        assert "Traceback" not in said
        if code == 2 and "Ray did not start in time" in said:
            continue  # a busy machine; nothing was killed
        assert code in (CODES[number], 0), said
        if code:
            met.append(f"{number.name}: {stage(run.folder)}")
        else:
            assert results(run.folder / "run") == expected
            run = Run(folder=tmp_path / f"work{place}")
    run.finish()
    assert results(run.folder / "run") == expected
    assert [path for path in litter(run.folder) if not path.startswith("cache")] == []
    print(f"driver: {len(met)} killed", *met, sep="\n  ")
    assert met


@pytest.mark.parametrize("kind", ["worker", "rank"])
def test_a_worker_or_rank_at_any_moment(
    kind: str, whole: tuple[dict[str, object], float], tmp_path: Path
) -> None:
    """The run goes on by itself; the driver is not disturbed."""
    expected, _ = whole
    draw, met = np.random.default_rng(5), []
    for place in range(5):
        run = Run(folder=tmp_path / f"work{place}")
        driver = run.start()
        pid = victim_of(driver, kind)
        assert pid is not None, run.said.read_text()
        time.sleep(float(draw.uniform(0.0, 3.0)))
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
            met.append(stage(run.folder))
        assert driver.wait() == 0, run.said.read_text()
        assert results(run.folder / "run") == expected
    print(f"{kind}: {len(met)} killed", *met, sep="\n  ")
    assert met
