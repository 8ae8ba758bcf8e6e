"""Who holds the lock of a run, and a signal to that process alone. Linux only.

Nothing here takes the lock, not even for a moment: a run that starts would find it taken.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

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


def lock_holder(lock: Path) -> int | None:
    """The process of this user that holds a lock file; None if there is none.

    The kernel's list names the process. It counts only if it still has the file open: a number
    may have gone to another process since.
    """
    try:
        about = lock.stat()
        listed = Path("/proc/locks").read_text()
    except OSError:
        return None
    for line in listed.splitlines():
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK" or words[2] == "->":
            continue
        if words[5].rpartition(":")[2] != str(about.st_ino) or not words[4].isdigit():
            continue
        pid = int(words[4])
        if _has_open(pid, about):
            return pid
    return None


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


def _has_open(pid: int, about: os.stat_result) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    try:
        if folder.stat().st_uid != os.getuid():
            return False
        entries = list(folder.iterdir())
    except OSError:
        return False
    for entry in entries:
        try:
            there = entry.stat()
        except OSError:
            continue
        if (there.st_dev, there.st_ino) == (about.st_dev, about.st_ino):
            return True
    return False
