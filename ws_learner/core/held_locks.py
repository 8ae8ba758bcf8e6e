"""Which process holds a lock file, without taking the lock. Linux only; elsewhere none is found."""

from __future__ import annotations

import os
from pathlib import Path

from ws_learner.core.paths import AnyPath, as_path

__all__ = ["lock_holder"]


def lock_holder(lock: AnyPath) -> int | None:
    """The process of this user that holds a lock file; None if there is none.

    The kernel's list names the process. It counts only if it still has the file open: a number
    may have gone to another process since.
    """
    try:
        about = as_path(lock, name="lock").stat()
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
