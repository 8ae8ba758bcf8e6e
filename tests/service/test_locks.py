"""A stop reaches the process that holds the run's lock, and no other."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.service import client, made_run
from ws_learner.service import lock_holder
from ws_learner.service import locks as locks_module
from ws_learner.service.locks import processes_of, signal_holder

HOLD = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def process(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-S", "-c", code, *words], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    started.stdout.readline()
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


def test_the_holder_is_found_and_stopped(tmp_path: Path) -> None:
    run = made_run(tmp_path, finished=False)
    with process(HOLD, str(run / ".lock")) as holder:
        assert lock_holder(run / ".lock") == holder.pid
        asked = client(tmp_path)
        found = asked.get("/runs/run").json()
        assert found["run"]["state"] == "running"
        assert [one["pid"] for one in found["processes"]] == [holder.pid]
        assert asked.post("/runs/run/stop").json()["state"] == "stopped"
        assert holder.wait(timeout=10) == -signal.SIGTERM
    assert lock_holder(run / ".lock") is None


def test_a_process_that_only_opens_the_lock_is_left_alone(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    only_opens = "import sys, time; f = open(sys.argv[1]); print(1, flush=True); time.sleep(60)"
    with process(only_opens, str(lock)) as other:
        assert lock_holder(lock) is None
        assert not signal_holder(lock)
        assert other.poll() is None


def test_a_number_that_went_to_another_process_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's list may name a process that has ended, while a child holds its file."""
    lock = tmp_path / "lock"
    lock.touch()
    with process("print(1, flush=True); import time; time.sleep(60)") as other:
        line = f"1: FLOCK  ADVISORY  WRITE {other.pid} 00:00:{lock.stat().st_ino} 0 EOF\n"
        forged = tmp_path / "locks"
        forged.write_text(line)
        real = Path

        def path(name: str) -> Path:
            return forged if name == "/proc/locks" else real(name)

        monkeypatch.setattr(locks_module, "Path", path)
        assert lock_holder(lock) is None
        assert not signal_holder(lock)
        assert other.poll() is None


def test_looking_never_takes_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as file:
        for _ in range(50):
            assert lock_holder(lock) is None
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert lock_holder(lock) == os.getpid()
            fcntl.flock(file, fcntl.LOCK_UN)


def test_processes_are_those_below(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        "print(p.pid, flush=True)\ntime.sleep(60)"
    )
    started = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    below = int(started.stdout.readline())
    try:
        found = {one.pid: one.worker for one in processes_of(started.pid)}
        assert found == {started.pid: False, below: True}
    finally:
        os.kill(below, signal.SIGKILL)
        started.kill()
        started.wait()
        started.stdout.close()
    time.sleep(0)
    assert started.pid not in {one.pid for one in processes_of(started.pid)}
