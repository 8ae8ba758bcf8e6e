"""Ctrl-C and SIGTERM end a run in one line, with all its processes; it can go on later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.cli.exit_codes import run_with_exit_code
from tests.support.processes import descendants, gone
from tests.support.ray_hosts import ROOT
from ws_learner.core.errors import UserError
from ws_learner.report import last_progress

TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
LONG = [
    *(TINY, "--ws_prune_ratio", "0.8", "--ws_prune_ratio_prtl", "uniform", "--ws_init", "scratch"),
    *("--nb_epochs", "5000", "--run_dir", "run"),
]
LINE = "stopped; the same command resumes from the last checkpoint, at most a minute old"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
# A background job of a script ignores Ctrl-C, and its children inherit that.
HEEDFUL = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def stop(
    command: list[str], number: signal.Signals, cwd: Path, *, when: Callable[[], bool]
) -> tuple[int, str]:
    """Run until `when`, send the signal; return exit code and what was said."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDFUL, *command],
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WS_CHECKPOINT_SECONDS": "0"},
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not when():
        time.sleep(0.02)
    started = descendants(process.pid)
    process.send_signal(number)
    try:
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert gone(started, seconds=90)
    return process.returncode, said


@pytest.mark.long
@pytest.mark.parametrize("number", list(CODES))
def test_a_local_run_is_stopped_in_one_line(number: signal.Signals, tmp_path: Path) -> None:
    begun = tmp_path / "run" / "state" / "sparse.pt"
    code, said = stop(["experiments.run", *LONG], number, tmp_path, when=begun.exists)
    assert code == CODES[number]
    assert said.splitlines()[-1] == LINE
    assert "Traceback" not in said
    last = last_progress(tmp_path / "run" / "progress.jsonl")
    assert last is not None
    assert (last.state, last.phase, last.number, last.phases) == ("stopped", "training", 1, 2)
    assert 0 < last.done < last.total


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", list(CODES))
@pytest.mark.parametrize("moment", ["ray starts", "ranks train"])
def test_a_run_on_ray_is_stopped_in_one_line(
    number: signal.Signals, moment: str, tmp_path: Path
) -> None:
    """Ray takes both signals for itself, at different times."""
    places = {"ray starts": "ray/ws-ray-*/session_*/logs", "ranks train": "run/state/sparse.pt"}
    own = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
    before = set(own.glob("ws-ray-*"))

    def reached() -> bool:
        if moment == "ray starts":
            new = set(own.glob("ws-ray-*")) - before
            return any(list(folder.glob("session_*/logs")) for folder in new)
        return bool(list(tmp_path.glob(places[moment])))

    command = ["experiments.distributed", "-n=2", *LONG]
    code, said = stop(command, number, tmp_path, when=reached)
    assert code == CODES[number], said
    assert said.splitlines()[-1] == LINE
    assert "Traceback" not in said


def test_exit_codes_and_the_handler_that_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        raise UserError("--flag 3: must be 4")

    def end() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    def end_what_watches() -> int:
        """As `logs RUN` does: it has its own word to say."""
        try:
            return end()
        except KeyboardInterrupt:
            return 130

    before = signal.getsignal(signal.SIGTERM)
    assert run_with_exit_code(lambda: 7) == 7
    assert run_with_exit_code(refuse) == 2
    assert run_with_exit_code(end) == 143
    assert run_with_exit_code(end_what_watches) == 143
    assert run_with_exit_code(lambda: run_with_exit_code(end)) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err.splitlines() == ["error: --flag 3: must be 4", LINE, LINE]
