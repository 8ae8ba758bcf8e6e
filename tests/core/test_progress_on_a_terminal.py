"""The progress bar on a pseudo-terminal: phase, count, elapsed and left, read as it is drawn."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from tests.support.ray_hosts import ROOT

WORK = """
import time
from ws_learner.core import plan_phases, say, track
with plan_phases(["database", "search", "training"]):
    with track("search", total=10, phase="search") as progress:
        for number in range(5):
            time.sleep(0.25)
            progress.advance(note=f"best reward 0.{number}")
        say("a line between")
        time.sleep(0.8)
"""


def drawn(code: str) -> str:
    """What a program writes to a terminal of 160 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "160", "LINES": "24"},
    )
    os.close(theirs)
    parts = []
    try:
        while data := os.read(ours, 1 << 16):
            parts.append(data)
    except OSError:  # the program has ended
        pass
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(parts).decode())


@pytest.mark.long
def test_a_bar_shows_phase_count_elapsed_and_left() -> None:
    lines = re.split(r"[\r\n]+", drawn(WORK))
    frames = [line for line in lines if "[2 of 3] search" in line]
    assert re.search(r"5 of 10, \d s elapsed, about \d s left", frames[-1]), frames[-1]
    assert "best reward 0.4" in frames[-1]
    found = [re.search(r"about (\d+) s left", frame) for frame in frames]
    lefts = [int(one[1]) for one in found if one]
    assert lefts[0] >= lefts[-1]
    assert "a line between" in lines  # above the bar
