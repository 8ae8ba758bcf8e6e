"""Whether a process holds a run's lock, which `RunDir.locked` takes."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

__all__ = ["lock_is_held"]


def lock_is_held(run: Path) -> bool | None:
    """Whether a process works in the run's folder; None if that cannot be told.

    The lock is tried for an instant, shared with other readers. `RunDir.locked` waits for longer
    than that.
    """
    path = run / ".lock"
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)  # releases it
    return False
