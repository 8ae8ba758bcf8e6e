"""`progress.jsonl`: the progress of a run as lines of JSON, for other programs to read.

Written by the process that runs the command, never by its workers. It is no result: a line that
cannot be written is left out.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TextIO

from ws_learner.core.messages import warn
from ws_learner.core.paths import AnyPath, as_path

__all__ = ["PROGRESS_FILE", "Event", "ProgressFile", "current_file", "log_progress"]

PROGRESS_FILE = "progress.jsonl"
Event = Literal["phase", "progress", "state"]
State = Literal["running", "finished", "stopped", "failed"]
_DIGITS = 3
_NO_PHASE: dict[str, Any] = {
    **{"phase": "", "number": None, "phases": None, "description": "", "done": 0.0, "total": 0.0},
    **{"elapsed_s": 0.0, "left_s": None, "command_left_s": None, "note": "", "values": {}},
}
_CURRENT: ContextVar[ProgressFile | None] = ContextVar("progress file", default=None)


class ProgressFile:
    """Appends lines to a file; an error is said once, and the work goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: State = "running"
        self._process = os.getpid()
        self._file: TextIO | None = None
        self._said = self._broken = False
        self._last: dict[str, Any] = dict(_NO_PHASE)

    def line(self, event: Event, **fields: Any) -> None:
        """Append a line of the file's format, with the fields of the line before if not given."""
        if os.getpid() != self._process:
            return  # a worker forked from this process
        self._last |= fields
        values = self._last["values"]
        line: dict[str, Any] = {"time": round(time.time(), _DIGITS), "event": event}
        line["state"] = self.state
        line |= {name: _rounded(value) for name, value in self._last.items()}
        line["values"] = {name: float(x) for name, x in values.items() if math.isfinite(x)}
        try:
            self._append(json.dumps(line))
        except OSError as error:
            self._broken = True
            if not self._said:
                self._said = True
                warn(
                    f"{self.path}: progress cannot be written ({error.strerror or error}); the "
                    "run goes on without"
                )

    def close(self, state: State) -> None:
        """Write the last state, and close the file."""
        self.state = state
        self.line("state", left_s=None, command_left_s=None)
        if self._file is not None:
            with suppress(OSError):  # the disk is full, as was said
                self._file.close()
            self._file = None

    def _append(self, text: str) -> None:
        if self._file is None:
            self._broken = _ends_within_a_line(self.path)
            self._file = self.path.open("a", encoding="utf-8")
        start = "\n" if self._broken else ""
        try:
            self._file.write(f"{start}{text}\n")
            self._file.flush()
        except OSError:
            file, self._file = self._file, None
            with suppress(OSError):  # writes the rest again
                file.close()
            raise
        self._broken = False


def current_file() -> ProgressFile | None:
    """The file that this process writes now."""
    return _CURRENT.get()


@contextmanager
def log_progress(folder: AnyPath, *, finished: Callable[[], bool]) -> Iterator[None]:
    """Inside this context progress is also appended to `progress.jsonl` of a run's folder.

    Args:
        folder: The run's folder, which is there.
        finished: Whether the run has finished, if no error ended it; otherwise it has stopped.
    """
    path = as_path(folder) / PROGRESS_FILE
    outer = _CURRENT.get()
    if outer is not None and outer.path == path:
        yield
        return
    file = ProgressFile(path)
    token = _CURRENT.set(file)
    file.line("state")
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        file.close("stopped")
        raise
    except BaseException:
        file.close("failed")
        raise
    else:
        file.close("finished" if finished() else "stopped")
    finally:
        _CURRENT.reset(token)


def _ends_within_a_line(path: Path) -> bool:
    """Whether a killed process left half a line."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # there is none, or it is empty
        return False


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    return value
