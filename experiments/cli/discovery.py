"""Find experiments and config files by path, bare name or PocketFlow's spelling.

Free of torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from experiments.cli.own_file import import_own_file
from ws_learner.core import UserError, complain, suggest

__all__ = ["bundled_name", "experiment_names", "find_config", "find_experiment", "own_file"]

_HERE = Path(__file__).parents[1]


def experiment_names() -> list[str]:
    """Names of the experiments that come with the project."""
    files = (path for kind in ("*_at_*.py", "*_classifier.py") for path in _HERE.glob(kind))
    return sorted(path.stem for path in files)


def find_experiment(name: str, *, include: Sequence[Path] = ()) -> ModuleType:
    """Import an experiment file.

    Args:
        name: A bare name (`resnet_at_cifar10`), a path (`experiments/resnet_at_cifar10.py`, or a
            file of the user's own) or PocketFlow's path (`nets/resnet_at_cifar10_run.py`).
        include: More folders that a file of the user's own imports from.

    Raises:
        UserError: There is no such experiment, or the file is none.
    """
    folders = [folder.expanduser().resolve() for folder in include]
    complain(
        f"--include {given}: no such folder; layers are chosen with --ws_include"
        for given, folder in zip(include, folders, strict=True)
        if not folder.is_dir()
    )
    path = own_file(name)
    if path is not None:
        return import_own_file(path, shown=name, include=folders)
    bundled = bundled_name(name)
    if bundled is not None:
        return importlib.import_module(f"experiments.{bundled}")
    stem = Path(name).stem.removesuffix("_run")
    raise UserError(f"experiment {name}: {_not_found(name, stem)}")


def bundled_name(name: str) -> str | None:
    """The experiment of the project that a name means; None if it means a user's file, or none.

    Nothing is imported. What a file or a folder names is imported only if this is not None.
    """
    stem = Path(name).stem.removesuffix("_run")
    fits = stem in experiment_names() and Path(name).suffix in {"", ".py"}
    return stem if fits and own_file(name) is None else None


def own_file(name: str) -> Path | None:
    """The user's file that a name means; None if it means an experiment of the project."""
    path = Path(name).expanduser()
    if path.suffix != ".py" or not path.is_file() or path.resolve().parent == _HERE:
        return None
    return path.resolve()


def _not_found(name: str, stem: str) -> str:
    path = Path(name).expanduser()
    if path.is_dir() and stem not in experiment_names():
        return "is a folder; give the experiment file in it"
    if path.is_file():
        return "is no Python file; give a file that ends in .py"
    if path.with_suffix(".py").is_file():
        return f"not found; did you mean {path.with_suffix('.py')}?"
    if path.parent != Path() and path.suffix == ".py":
        return f"no such file (it would be {path.absolute()})"
    return f"not found; {suggest(stem, experiment_names())}, or the path of a file of your own"


def find_config(name: str | Path) -> Path:
    """The file of this path, or else, for a bare name, the one that comes with the project."""
    path, ours = Path(name).expanduser(), _HERE / "configs" / name
    return ours if path.name == str(name) and not path.exists() and ours.is_file() else path
