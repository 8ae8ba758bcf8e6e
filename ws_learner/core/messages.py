"""Lines of status on standard error: their style, and how few of them a quiet command prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ws_learner.core.errors import plain_lines
from ws_learner.core.message_file import keep_message

__all__ = ["is_quiet", "message_style", "quiet", "say", "say_passing", "warn"]

_STYLE: ContextVar[Callable[[str], str]] = ContextVar("message style", default=str)
_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


def say(text: str) -> None:
    """Print one line of status to standard error, unless the command is quiet; a run keeps it."""
    if _QUIET.get():
        keep_message(plain_lines(_STYLE.get()(text)))
    else:
        warn(text)


def warn(text: str) -> None:
    """Print a warning, an error or the headline to standard error, also if the command is quiet."""
    keep_message(_printed(text))


def say_passing(text: str) -> None:
    """Print a line of progress, which no report repeats; a quiet command leaves it out."""
    if not _QUIET.get():
        _printed(text)


def _printed(text: str) -> str:
    styled = plain_lines(_STYLE.get()(text))
    print(styled, file=sys.stderr, flush=True)
    return styled


@contextmanager
def message_style(style: Callable[[str], str]) -> Iterator[None]:
    """Inside this context, messages are rewritten by `style`, such as arguments to flags."""
    token = _STYLE.set(style)
    try:
        yield
    finally:
        _STYLE.reset(token)


@contextmanager
def quiet(on: bool = True) -> Iterator[None]:
    """Inside this context only warnings, errors and the headline are printed, and no progress."""
    token = _QUIET.set(on or _QUIET.get())
    try:
        yield
    finally:
        _QUIET.reset(token)


def is_quiet() -> bool:
    """Whether status and progress are left out."""
    return _QUIET.get()
