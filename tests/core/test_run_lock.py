"""The lock of a run's folder: refused with the process that holds it, or waited for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ws_learner.core import RunDir, UserError


def test_a_lock_is_refused_or_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / "run")
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with run.locked():
            held.set()
            free.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    process = rf"another process or call \(process {os.getpid()}\)"
    with pytest.raises(UserError, match=rf"`run_dir` .*: is locked by {process}"), run.locked():
        pytest.fail("two hold it")
    with pytest.raises(UserError) as refused, run.locked(named=False):
        pytest.fail("two hold it")
    assert str(refused.value).startswith(f"{run.path}: is locked by")
    assert "give the same command again" in str(refused.value)
    threading.Timer(0.2, free.set).start()
    with run.locked(waits=True, named=False):
        assert free.is_set()
    holder.join()
    said = capsys.readouterr().err
    assert said.startswith(f"{run.path}: another process or call (process {os.getpid()}) works on")
    assert said.endswith("waiting until it ends\n")
