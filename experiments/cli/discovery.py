"""Find experiments and config files by path, bare name or PocketFlow's spelling.

Free of torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from ws_learner.core import UserError, suggest

__all__ = ["experiment_names", "find_config", "find_experiment"]

_HERE = Path(__file__).parents[1]


def experiment_names() -> list[str]:
    """Names of the experiments that come with the project."""
    files = (path for kind in ("*_at_*.py", "*_classifier.py") for path in _HERE.glob(kind))
    return sorted(path.stem for path in files)


def find_experiment(name: str) -> ModuleType:
    """Import an experiment file.

    Args:
        name: A bare name (`resnet_at_cifar10`), a path (`experiments/resnet_at_cifar10.py`, or a
            file of the user's own) or PocketFlow's path (`nets/resnet_at_cifar10_run.py`).

    Raises:
        UserError: There is no such experiment, or the file is none.
    """
    stem = Path(name).stem.removesuffix("_run")
    path = Path(name)
    if path.suffix == ".py" and path.is_file() and path.resolve().parent != _HERE:
        module = _import_file(path.resolve())
    elif stem in experiment_names() and (path.suffix in {"", ".py"}):
        module = importlib.import_module(f"experiments.{stem}")
    else:
        raise UserError(
            f"experiment {name}: not found; {suggest(stem, experiment_names())}, "
            "or the path of a file of your own"
        )
    missing = [part for part in ("Options", "build") if not hasattr(module, part)]
    if missing:
        raise UserError(
            f"experiment {name}: defines no {' and no '.join(missing)}; "
            "see experiments/experiment.py for what an experiment file holds"
        )
    return module


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"experiment {path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def find_config(name: str | Path) -> Path:
    """The file of this path, or else, for a bare name, the one that comes with the project."""
    path, ours = Path(name), _HERE / "configs" / name
    return ours if path.name == str(name) and not path.exists() and ours.is_file() else path
