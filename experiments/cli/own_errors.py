"""Errors inside a user's own file: one line, and the frames of the user's files. Free of torch."""

from __future__ import annotations

import itertools
import os
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ws_learner.core import UserError

__all__ = [
    "OURS",
    "ROOT",
    "describe_own_error",
    "is_own",
    "own_cause",
    "own_errors",
    "own_lines",
    "show_path",
]

ROOT = Path(__file__).resolve().parents[2]
OURS = ("agents", "envs", "experiments", "ws_learner")
"""Packages of the project; a user's folder may hold others of these names."""
_MOST = 8
"""Frames that are shown."""


def is_own(file: str | Path, folders: Sequence[Path]) -> bool:
    """Whether a file is the user's: below one of `folders`, neither installed nor the project's."""
    path = Path(file)
    if not path.suffix or not any(path.is_relative_to(folder) for folder in folders):
        return False
    if any(path.is_relative_to(ROOT / name) for name in OURS):
        return False
    library = Path(sysconfig.get_path("stdlib"))
    return not (
        {"site-packages", "dist-packages"} & set(path.parts) or path.is_relative_to(library)
    )


def show_path(path: str | Path) -> str:
    """The path below the current folder, or the whole one."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@contextmanager
def own_errors(name: str, folders: Sequence[Path], *, doing: str) -> Iterator[None]:
    """Turn what a user's file raises inside this context into a `UserError` of few lines.

    Args:
        name: What was run, such as `experiment mine.py`.
        folders: Where the user's files are.
        doing: What it did, such as `build`.

    Raises:
        UserError: As it was raised, or in place of another exception.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        text = describe_own_error(error, folders)
        if text is None or os.environ.get("WS_TRACEBACK"):
            raise
        raise UserError(f"{name}: {doing} {text}") from error


def describe_own_error(error: BaseException, folders: Sequence[Path]) -> str | None:
    """What was raised, and a line for each frame of the user's; None if there is no such frame."""
    if isinstance(error, SyntaxError) and is_own(error.filename or "", folders):
        code = (error.text or "").strip()
        where = f"{show_path(error.filename or '')}:{error.lineno or 1}"
        return f"met a {type(error).__name__}: {error.msg}\n  {where}: {code}"
    lines = own_lines(error, folders)
    if not lines:
        return None
    said = " ".join(str(error).split())
    return "\n  ".join([f"raised {type(error).__name__}{': ' if said else ''}{said}", *lines])


def own_cause(error: UserError, folders: Sequence[Path]) -> BaseException | None:
    """What a `UserError` was made of, if that came from the user's files and it shows no frame."""
    cause = error.__cause__
    if cause is None or "\n" in str(error) or not own_lines(cause, folders):
        return None
    return cause


def own_lines(error: BaseException, folders: Sequence[Path]) -> list[str]:
    """A line for each frame of the user's, the last ones."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_own(frame.filename, folders)]
    if not own:
        return []
    lines: list[str] = []
    for line, same in itertools.groupby(map(_line, own)):
        times = len(list(same))
        lines.append(line if times == 1 else f"{line} ({times:,} times)")
    lines = lines[-_MOST:]
    if own[-1] is not frames[-1]:
        lines[-1] += f" (in {_short(frames[-1].filename)}:{frames[-1].lineno})"
    return lines


def _line(frame: traceback.FrameSummary) -> str:
    inside = "" if frame.name == "<module>" else f", in {frame.name}"
    return f"{show_path(frame.filename)}:{frame.lineno}{inside}: {frame.line}"


def _short(file: str) -> str:
    """A library's file by its last folders."""
    parts = Path(file).parts
    for mark in ("site-packages", "dist-packages"):
        if mark in parts:
            return "/".join(parts[parts.index(mark) + 1 :])
    library = Path(sysconfig.get_path("stdlib"))
    return Path(file).name if Path(file).is_relative_to(library) else show_path(file)
