"""Writes of this process that fail, or end it, each once.

Looked at are all that Python tells its audit hooks (a file opened for writing, a folder made, a
file renamed or removed) and every flush to the disk.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_EVENTS = {"os.rename": "rename", "os.remove": "remove", "os.mkdir": "mkdir"}


@dataclass
class Fault:
    """The first write that is not in the list fails, and enters it.

    Attributes:
        number: Error number, or None for SIGKILL.
        below: Only writes below this folder.
        listed: The list: a file elsewhere.
        kinds: The kinds of writes that fail.
    """

    number: int | None
    below: Path
    listed: Path
    kinds: frozenset[str] = frozenset({"open", "fsync", "rename", "remove", "mkdir"})
    known: set[str] = field(default_factory=set)
    armed: bool = True

    def install(self) -> None:
        """From now on, writes fail; for the life of the process."""
        self.known = set(self.listed.read_text().splitlines()) if self.listed.exists() else set()
        folder, sync = str(self.below.resolve()), os.fsync

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and isinstance(arguments[0], str) and arguments[2] & _WRITES:
                self._meet("open", arguments[0], folder)
            elif event in _EVENTS and isinstance(arguments[0], str | os.PathLike):
                target = os.fspath(arguments[1 if event == "os.rename" else 0])
                if event != "os.mkdir" or not os.path.isdir(target):
                    self._meet(_EVENTS[event], target, folder)

        def fsync(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            self._meet("fsync", os.readlink(f"/proc/self/fd/{number}"), folder)
            sync(number)

        os.fsync = fsync
        sys.addaudithook(hook)

    def _meet(self, kind: str, path: str, folder: str) -> None:
        whole = os.path.abspath(path)
        if not self.armed or kind not in self.kinds or not whole.startswith(folder + os.sep):
            return
        if self.number is not None and whole.endswith("/progress.jsonl"):
            return  # no run fails because of it, see tests/core/test_progress_file.py
        name = re.sub(r"/\.([^/]+)-[a-z0-9_]{8}(\.\w+)?$", r"/\1\2", whole[len(folder) :])
        key = f"{kind} {name}"
        if key in self.known:
            return
        self.armed = False
        with self.listed.open("a") as file:
            file.write(key + "\n")
        if self.number is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise OSError(self.number, os.strerror(self.number), path)
