"""`messages.jsonl`: what a run said, kept in its folder for reports.

Each line is an object with `level` (`status` or `warning`) and `text`. Lines that were said before
the run had a folder come first. It is no result: a resumed run appends to it.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ws_learner.core.errors import UserError
from ws_learner.core.paths import AnyPath, as_path
from ws_learner.core.shown_values import shown

__all__ = ["MESSAGES_FILE", "keep_message", "keep_messages", "remember_messages"]

MESSAGES_FILE = "messages.jsonl"
Level = Literal["status", "warning"]
_MOST = 8000


@dataclass
class _Keeper:
    """Lines of this process, and the file that they go to once there is one."""

    process: int = field(default_factory=os.getpid)
    early: list[str] = field(default_factory=list)
    path: Path | None = None

    def keep(self, line: str) -> None:
        if os.getpid() != self.process:
            return  # a worker forked from this process
        if self.path is None:
            self.early.append(line)
        else:
            _append(self.path, [line])


_KEEPER: ContextVar[_Keeper | None] = ContextVar("keeper of messages", default=None)


def keep_message(text: str, *, level: Level = "status") -> None:
    """Keep a message with the run that is under way, if there is one."""
    keeper = _KEEPER.get()
    if keeper is not None:
        keeper.keep(json.dumps({"level": level, "text": shown(text, most=_MOST)}))


@contextmanager
def remember_messages() -> Iterator[None]:
    """Inside, messages and Python's warnings are remembered for a run that gets its folder later.

    Does nothing inside another such context.
    """
    if _KEEPER.get() is not None:
        yield
        return
    token = _KEEPER.set(_Keeper())
    try:
        with _python_warnings():
            yield
    finally:
        _KEEPER.reset(token)


@contextmanager
def keep_messages(folder: AnyPath) -> Iterator[None]:
    """Inside, messages go to `messages.jsonl` of a run's folder, first those remembered so far.

    Raises:
        UserError: It cannot be written.
    """
    path = as_path(folder) / MESSAGES_FILE
    with remember_messages():
        keeper = _KEEPER.get()
        assert keeper is not None
        outer = keeper.path
        if outer == path:
            yield
            return
        _append(path, keeper.early)
        keeper.path = path
        try:
            yield
        finally:
            keeper.path = outer


def _append(path: Path, lines: list[str]) -> None:
    if not lines:
        return
    text = "".join(f"{line}\n" for line in lines)
    try:
        with path.open("a+b") as file:
            if file.tell() and _ends_within_a_line(file):
                text = f"\n{text}"
            file.write(text.encode())
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another "
            "folder, then run the same command again"
        ) from error


def _ends_within_a_line(file: Any) -> bool:
    """Whether a killed process left half a line."""
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) != b"\n")


@contextmanager
def _python_warnings() -> Iterator[None]:
    """Inside, warnings that Python shows are kept too."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        keep_message(f"{category.__name__}: {message}", level="warning")
        before(message, category, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = before
