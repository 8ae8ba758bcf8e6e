"""The user's own code that travels with a job: which files, and where they lie there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from experiments.cli.own_errors import OURS, ROOT, show_path
from experiments.cli.own_file import missing_import
from experiments.cli.own_imports import import_root, read_imports
from ws_learner.core import UserError, say

__all__ = ["LEFT_OUT", "LIMIT", "own_code"]

LIMIT = 100 * 2**20
"""Bytes of a user's folder that are sent."""
_MOST_FILES = 10_000
LEFT_OUT = ("__pycache__", "results", "benchmarks", "*.pyc", ".*")
"""Of our packages."""
_LEFT_OUT = ("__pycache__", "*.pyc", ".*", "runs", "node_modules", "*.egg-info")
"""Of the user's folders; environments are left out, too."""


def own_code(file: Path, include: Sequence[Path] = ()) -> dict[str, Path]:
    """Files to send with an experiment file: path there -> file here.

    Its folder, or the whole package that it is in; packages elsewhere that it imports; the
    folders of `include`. If the folder is too large, only what the file imports is sent, and a
    line says so.

    Args:
        file: The experiment file, absolute.
        include: More folders: of a package the package, of another folder what is in it.

    Raises:
        UserError: An import is not found, a folder of `include` is too large, or two files would
            lie at one place.
    """
    given = [Path(one).expanduser().resolve() for one in include]
    imports = read_imports(file, given)
    if line := missing_import(imports):
        raise UserError(f"experiment {show_path(file)}: {line}")
    root, name = import_root(file)
    whole = root / name.partition(".")[0] if "." in name else root
    found = _Placed()
    files = _below(whole)
    if files is None:
        files = [one for one in imports.files if one.is_relative_to(whole)]
        say(
            f"{show_path(whole)}: more than {LIMIT >> 20} MB or {_MOST_FILES:,} files, so of it "
            f"only the {len(files)} files that {file.name} imports are sent; --include DIR adds "
            "a folder of it"
        )
    found.add(files, root)
    for folder in given:
        inside = _below(folder)
        if inside is None:
            raise UserError(
                f"--include {show_path(folder)}: is more than {LIMIT >> 20} MB or "
                f"{_MOST_FILES:,} files, too much to send; name a smaller folder, and keep data "
                "on storage that the cluster sees"
            )
        package = (folder / "__init__.py").is_file()
        found.add(inside, folder.parent if package else folder)
        if not package and folder.is_relative_to(root):  # also where it is here
            found.add(inside, root)
    for one, base in imports.places:
        if one.relative_to(base).as_posix() not in found.files:
            found.add(_package_of(one, base), base)
    return found.files


class _Placed:
    """Files and their places, one file to a place."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}

    def add(self, files: Sequence[Path], root: Path) -> None:
        skipped = set[str]()
        for file in files:
            target = file.relative_to(root).as_posix()
            if Path(target).parts[0] in OURS:
                skipped.add(Path(target).parts[0])
                continue
            there = self.files.setdefault(target, file)
            if there != file and there.read_bytes() != file.read_bytes():
                raise UserError(
                    f"{show_path(file)} and {show_path(there)} would lie at one place on the "
                    "cluster; rename one of them"
                )
        for name in sorted(skipped if root != ROOT else ()):
            say(
                f"{show_path(root / name)}: is not sent, for a package of this project has the "
                "same name; rename the folder if the experiment needs it"
            )


def _package_of(file: Path, folder: Path) -> list[Path]:
    """The whole package of a file, if it is not too large; else the file."""
    top = folder / file.relative_to(folder).parts[0]
    return (_below(top) if top.is_dir() else None) or [file]


def _below(folder: Path) -> list[Path] | None:
    """The files to send of a folder; None if they are too many or too large."""
    files, size = list[Path](), 0
    for file in _walk(folder):
        files.append(file)
        size += file.stat().st_size
        if size > LIMIT or len(files) > _MOST_FILES:
            return None
    return files


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            name for name in folders if not _left_out(name) and not _is_no_code(here / name)
        )
        for name in sorted(names):
            if not _left_out(name) and (here / name).is_file():
                yield here / name


def _left_out(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _LEFT_OUT)


def _is_no_code(folder: Path) -> bool:
    """Whether a folder is an environment or the folder of a run."""
    return any((folder / name).exists() for name in ("pyvenv.cfg", "identity.json"))
