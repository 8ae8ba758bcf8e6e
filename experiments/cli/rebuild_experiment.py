"""Build a finished run's experiment again, from the settings in its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from experiments.cli.discovery import find_experiment
from experiments.cli.find_own_file import find_run_experiment, say_changed
from experiments.cli.own_file import build_experiment
from experiments.experiment import Experiment
from ws_learner.compat import (
    LPOT_COPY,
    find_data_folder,
    load_conf_splits,
    read_lpot,
    with_data_folder,
)
from ws_learner.core import RunDir, UserError, load_into, read_yaml_file, shown
from ws_learner.data import DataSplits

__all__ = ["build_options", "find_named", "find_parts", "load_experiment"]


def load_experiment(run: RunDir, *, module: ModuleType | None = None) -> Experiment:
    """Build a finished run's experiment, with the weights that the run saved.

    Args:
        run: The run.
        module: The experiment file; by default the project's own that the run's settings name.

    Raises:
        UserError: The folder holds no finished run, or its files do not fit together.
    """
    run.read_summary()
    settings = _settings(run)
    _check_setting(run, settings, "seed", int)
    module = module or find_run_experiment(run, settings)
    names = {item.name for item in dataclasses.fields(module.Options)}
    plain = {name: settings[name] for name in names if name in settings}
    if not isinstance(settings.get("data_dir"), str | None):
        raise UserError(f"{run.config}: data_dir is no path; the file is damaged")
    lpot = read_lpot(run.path / LPOT_COPY) if (run.path / LPOT_COPY).exists() else None
    if lpot is not None and lpot.train is not None and settings.get("data_dir"):
        lpot = with_data_folder(lpot, Path(settings["data_dir"]))
    if lpot is not None and lpot.train is not None and lpot.train.loader is not None:
        plain["data_dir"] = find_data_folder(lpot.train.loader)
    experiment = build_experiment(module, build_options(module, plain, run), seed=settings["seed"])
    if lpot is not None and lpot.train is not None:
        experiment = dataclasses.replace(experiment, data=load_conf_splits(lpot))
    load_into(experiment.model, run.model)
    return experiment


def find_named(run: RunDir, experiment: str, *, include: Sequence[Path] = ()) -> ModuleType:
    """Import the experiment that a user names for a run; say what of it has changed since.

    Args:
        run: The run.
        experiment: A file or a name.
        include: More folders to import from. Those in the run's settings do not count: a folder
            must not bring code in.

    Raises:
        UserError: There is no such experiment, or it imports from folders that are not named.
    """
    listed = _settings(run).get("include")
    try:
        module = find_experiment(experiment, include=include)
    except UserError as error:
        if listed and not include and _lacks_import(error):
            raise UserError(
                f"{error} (the run had include {shown(listed)}; name it again)"
            ) from error
        raise
    say_changed(run, module)
    return module


def find_parts(
    run: RunDir, experiment: str | None = None, *, include: Sequence[Path] = ()
) -> Callable[[], tuple[nn.Module, DataSplits]]:
    """What builds a finished run's network and data; see `ws_learner.load_run`.

    Args:
        run: The run.
        experiment: The experiment's file or name; needed where it does not come with the project.
        include: More folders that the file imports from.

    Raises:
        UserError: There is no such experiment, or it has to be named.
    """
    if not run.config.exists():
        raise UserError(
            f"{run.path}: has no {run.config.name}, so it was made from Python; give "
            "load_run(path, model=model)"
        )
    if experiment is not None:
        module = find_named(run, experiment, include=include)
    else:
        module = find_run_experiment(run, _settings(run))

    def build() -> tuple[nn.Module, DataSplits]:
        made = load_experiment(run, module=module)
        return made.model, made.data

    return build


def _lacks_import(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ImportError):
        error = error.__cause__
    return error is not None


def _settings(run: RunDir) -> dict[str, Any]:
    if not run.config.exists():
        raise UserError(
            f"{run.path}: has no {run.config.name}, so it was made from Python, and the command "
            "line does not know its network; in Python, load_run(path, model=model) opens it"
        )
    where = str(run.config)
    settings: dict[str, Any] = read_yaml_file(run.config, where=where, remedy="it is damaged")
    _check_setting(run, settings, "experiment", str)
    return settings


def _check_setting(run: RunDir, settings: Any, name: str, kind: type) -> None:
    value = settings.get(name) if isinstance(settings, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UserError(
            f"{run.config}: no {name} in it, or not as {kind.__name__}; the file is damaged"
        )


def build_options(module: ModuleType, plain: Mapping[str, object], run: RunDir) -> Any:
    """The `Options` of an experiment from values in a run's settings.

    Raises:
        UserError: They do not fit the file any more.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(module.Options).validate_python(dict(plain))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{run.config}: {where}: {first['msg']}, say the Options of {module.__file__}; the "
            "file has changed since the run"
        ) from error
