"""Ray's processes that outlive the session that started them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ws_learner.core import say

__all__ = ["RayProcess", "end_leftovers", "ray_processes"]

_GRACE = 20.0  # seconds that Ray's own end may take


@dataclass(frozen=True)
class RayProcess:
    """A worker or actor of Ray; a later process with its number has another start."""

    pid: int
    start: str


def ray_processes(parent: int) -> list[RayProcess]:
    """The workers and actors below a process; none where there is no /proc."""
    found = []
    for pid in _below(parent):
        with suppress(OSError, IndexError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
                found.append(RayProcess(pid, _start(pid)))
    return found


def end_leftovers(started: Iterable[RayProcess], *, grace: float = _GRACE) -> None:
    """Kill those of a local cluster that is shut down which are there after a grace period.

    A train controller was seen to go on without its raylet (Ray 2.60).
    """
    end = time.monotonic() + grace
    left = [one for one in started if _there(one)]
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left = [one for one in left if _there(one)]
    for one in left:
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
    if left:
        say(f"Ray left {len(left)} of its processes behind; they are ended")


def _below(pid: int) -> list[int]:
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in file.read_text().split()]
    return found + [below for child in found for below in _below(child)]


def _start(pid: int) -> str:
    """When the process began, in ticks since the machine did; its state is not read."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _there(one: RayProcess) -> bool:
    try:
        fields = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" and fields[19] == one.start
