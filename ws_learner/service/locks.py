"""Who holds the lock of a run, and a signal to that process alone. Linux only.

Nothing here takes the lock, not even for a moment: a run that starts would find it taken.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from ws_learner.core import lock_holder

__all__ = ["ProcessUse", "lock_holder", "processes_of", "signal_holder"]

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ProcessUse:
    """A process of a run.

    Attributes:
        pid: Its number.
        seconds: Processor time so far.
        megabytes: Memory it holds now.
        worker: Whether it is one of those that the first process started.
    """

    pid: int
    seconds: float
    megabytes: float
    worker: bool


def signal_holder(lock: Path, number: int = signal.SIGTERM) -> bool:
    """Send a signal to the process that holds a lock file; False if there is none of this user.

    The process is pinned first and looked at then, so that the signal cannot reach another one.
    """
    pid = lock_holder(lock)
    if pid is None:
        return False
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if lock_holder(lock) != pid:
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def processes_of(pid: int) -> list[ProcessUse]:
    """A process and all below it, with the time and memory that they use."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop(0)
        todo += sorted(parents.get(one, []))
        if fields := _stat(one):
            seconds = (int(fields[11]) + int(fields[12])) / _TICK
            memory = int(fields[21]) * _PAGE / 1e6
            found.append(ProcessUse(pid=one, seconds=seconds, megabytes=memory, worker=one != pid))
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
