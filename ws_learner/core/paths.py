"""Paths as people give them: text, `pathlib.Path`, or anything with `__fspath__`."""

from __future__ import annotations

import os
from pathlib import Path

from ws_learner.core.errors import UserError

__all__ = ["AnyPath", "as_path"]

AnyPath = str | os.PathLike[str]
"""A path; `~` is the home folder."""


def as_path(given: AnyPath, *, name: str = "path") -> Path:
    """The path that was given, with `~` as the home folder.

    Args:
        given: Text or path.
        name: Of the argument, for messages.

    Raises:
        UserError: It is no path, is empty, or begins with an unknown user's `~name`.
    """
    plain = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(plain, str) or not plain:
        raise UserError(f"`{name}` {given!r}: must be a path, as text or pathlib.Path")
    try:
        return Path(plain).expanduser()
    except RuntimeError as error:
        raise UserError(f"`{name}` {plain}: {error}") from error
