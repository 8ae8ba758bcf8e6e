"""A deploy folder appears whole or not at all, and replaces only an earlier one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ws_learner.core import UserError, read_json
from ws_learner.deploy.folder.engines import ENGINES

__all__ = ["MADE_BY", "refuse_foreign", "staged"]

MADE_BY = "ws_learner deploy folder"
_FILES = {"deploy.json", "load.py", "example.npz", "__pycache__", *ENGINES.values()}


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier deploy folder."""
    if not folder.exists():
        return
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {folder.name}
    if not names and folder.is_dir():
        return
    try:
        ours = read_json(folder / "deploy.json")["made_by"] == MADE_BY
    except (OSError, ValueError, TypeError, KeyError):
        ours = False
    foreign = sorted(names - _FILES)
    if not ours or foreign:
        what = f"holds {foreign[0]}" if foreign else "is no deploy folder of ours"
        raise UserError(f"`folder` {folder}: {what} and stays as it is; choose another folder")


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its place at the end; none after an error."""
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise UserError(f"`folder` {folder}: cannot be written ({error.strerror})") from error
    before = made.with_name(f"{made.name}-before")
    try:
        yield made
        made.chmod(0o755)
        if folder.exists():
            folder.rename(before)
        made.rename(folder)
    except OSError as error:
        raise UserError(f"`folder` {folder}: cannot be written ({error})") from error
    finally:
        if before.exists() and not folder.exists():
            before.rename(folder)
        shutil.rmtree(before, ignore_errors=True)
        shutil.rmtree(made, ignore_errors=True)
