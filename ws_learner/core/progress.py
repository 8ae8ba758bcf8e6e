"""Progress of long operations: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from ws_learner.core.errors import plain_lines
from ws_learner.core.message_file import keep_message

__all__ = ["Progress", "message_style", "say", "track"]

_SECONDS_BETWEEN_LINES = 15.0
_STYLE: ContextVar[Callable[[str], str]] = ContextVar("message style", default=str)


class Progress(Protocol):
    """Receives the progress of a long operation."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Advance by `amount` units; `note` is shown next to the bar."""


def say(text: str) -> None:
    """Print one line of status to standard error; a run that is under way keeps it."""
    keep_message(_printed(text))


def _printed(text: str) -> str:
    styled = plain_lines(_STYLE.get()(text))
    print(styled, file=sys.stderr, flush=True)
    return styled


@contextmanager
def message_style(style: Callable[[str], str]) -> Iterator[None]:
    """Inside this context, `say` rewrites messages by `style`, such as arguments to flags."""
    token = _STYLE.set(style)
    try:
        yield
    finally:
        _STYLE.reset(token)


class _Lines:
    """Plain progress lines for logs: share done and time left."""

    def __init__(self, description: str, total: float, done: float) -> None:
        self._description, self._total, self._done = description, total, done
        self._start, self._first = time.monotonic(), done
        self._last = self._start

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES or self._done >= self._total:
            self._last = now
            moved, left = self._done - self._first, ""
            if moved > 0:
                seconds = (now - self._start) / moved * max(self._total - self._done, 0.0)
                left = f", about {seconds:.0f} s left"
            share = self._done / max(self._total, 1e-9)
            _printed(f"{self._description}: {share:4.0%}{left} {note}".rstrip())


class _Bar:
    """Progress bar by rich."""

    def __init__(self, description: str, total: float, done: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._task = self.bar.add_task(description, total=total, note="")
        self.bar.update(self._task, completed=done)

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        self.bar.update(self._task, advance=amount, note=note)


@contextmanager
def track(description: str, *, total: float, done: float = 0.0) -> Iterator[Progress]:
    """Show progress of `total` units of work, of which an earlier run finished `done`.

    Example:
        >>> with track("pruning", total=3) as progress:
        ...     for _ in range(3):
        ...         progress.advance()
    """
    if not sys.stderr.isatty():
        yield _Lines(description, total, done)
        return
    bar = _Bar(description, total, done)
    with bar.bar:
        yield bar
