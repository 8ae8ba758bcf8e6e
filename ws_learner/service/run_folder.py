"""The folder of run directories: a run by its id, a file by its path inside the run."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ws_learner.core import folder_name, shown

__all__ = ["NotThereError", "RunFile", "RunFolder", "download_type"]

_MOST_FILES = 500
_TEXT = {".csv", ".json", ".jsonl", ".log", ".md", ".txt", ".yaml", ".yml"}
_PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}


class NotThereError(Exception):
    """No such run or file; the text is for the user and names no path outside the folder."""


@dataclass(frozen=True)
class RunFile:
    """A file of a run.

    Attributes:
        name: Its path inside the run, with slashes.
        size: Bytes.
    """

    name: str
    size: int


class RunFolder:
    """The run directories in one folder; nothing outside it is reached, through links neither.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._root = self.path.resolve()

    def named(self, name: str) -> Path:
        """The place of a run, whether or not there is one.

        Raises:
            NotThereError: The name is none of a folder directly inside this one.
        """
        if not name or name.startswith(".") or folder_name(name) != name:
            raise NotThereError(f"{shown(name)}: no run is called so")
        return self.path / name

    def run(self, name: str) -> Path:
        """The directory of a run.

        Raises:
            NotThereError: There is none, or it lies elsewhere.
        """
        path = self.named(name)
        try:
            inside = path.is_dir() and path.resolve().parent == self._root
        except (OSError, RuntimeError, ValueError):
            inside = False
        if not inside:
            raise NotThereError(f"{shown(name)}: no run is called so")
        return path

    def file(self, name: str, inside: str) -> Path:
        """A plain file of a run.

        Raises:
            NotThereError: There is none, it is hidden, or it lies outside the run.
        """
        run = self.run(name)
        parts = inside.split("/")
        if "\\" in inside or any(not part or part.startswith(".") for part in parts):
            raise NotThereError(f"{shown(name)}: the run has no file {shown(inside)}")
        try:
            path = run.joinpath(*parts).resolve()
            found = path.is_file() and path.is_relative_to(run.resolve())
        except (OSError, RuntimeError, ValueError):
            found = False
        if not found:
            raise NotThereError(f"{shown(name)}: the run has no file {shown(inside)}")
        return path

    def files(self, name: str) -> list[RunFile]:
        """The files of a run that can be asked for, by name."""
        run = self.run(name)
        found = [
            RunFile(name=inside, size=path.stat().st_size)
            for path in _walk(run, depth=3)
            if self._served(name, inside := path.relative_to(run).as_posix())
        ]
        return sorted(found, key=lambda one: ("/" in one.name, one.name))[:_MOST_FILES]

    def _served(self, name: str, inside: str) -> bool:
        try:
            self.file(name, inside)
        except NotThereError:
            return False
        return True


def _walk(folder: Path, *, depth: int) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif depth and path.is_dir() and not path.is_symlink():
            yield from _walk(path, depth=depth - 1)


def download_type(name: str) -> tuple[str, bool]:
    """The media type of a file, and whether a browser may show it; all else is saved.

    Example:
        >>> download_type("ratios.csv"), download_type("page.html")
        (('text/plain; charset=utf-8', True), ('text/html', False))
    """
    suffix = Path(name).suffix.lower()
    if suffix in _TEXT:
        return "text/plain; charset=utf-8", True
    if suffix in _PICTURES:
        return _PICTURES[suffix], True
    return mimetypes.guess_type(name)[0] or "application/octet-stream", False
