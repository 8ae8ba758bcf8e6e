"""A finished run, opened again from its folder."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ws_learner.core import (
    AnyPath,
    RunDir,
    UserError,
    as_path,
    forward_digest,
    load_into,
    read_json,
    read_yaml_file,
    warn,
)
from ws_learner.data import DataSplits
from ws_learner.report import read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LoadedRun", "load_run"]

Parts = tuple[nn.Module, DataSplits | None]


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A finished run.

    Attributes:
        path: The run's folder.
        summary: Headline numbers, as in `summary.json`.
        build: Makes the network, with the run's weights, and the data; called once, when `model`
            or `data` is first used.
    """

    path: Path
    summary: dict[str, Any]
    build: Callable[[], Parts] = field(repr=False)

    @cached_property
    def _parts(self) -> Parts:
        return self.build()

    @cached_property
    def model(self) -> nn.Module:
        """The network with the weights that the run saved, in evaluation mode.

        It is on the CPU, or where the network given to `load_run` is.

        Raises:
            UserError: The weights belong to another network, or data cannot be read.
        """
        return self._parts[0].eval()

    @cached_property
    def data(self) -> DataSplits:
        """The run's splits.

        Raises:
            UserError: They cannot be read, or nothing says what they are.
        """
        data = self._parts[1]
        if data is None:
            raise UserError(
                f"{self.path}: the folder does not say which data the run had; give "
                "load_run(path, model=model, data=data)"
            )
        return data

    @cached_property
    def ratios(self) -> pd.DataFrame:
        """The layer table, a row per layer: see `report.table.COLUMNS`; ratios are in [0, 1].

        Raises:
            UserError: The run trained a dense network.
        """
        table = RunDir(self.path).ratios
        if not table.exists():
            raise UserError(f"{self.path}: has no {table.name}; a dense run sets no ratios")
        return read_table(table)


def load_run(
    path: AnyPath,
    *,
    model: nn.Module | None = None,
    data: DataSplits | None = None,
    experiment: AnyPath | None = None,
    include: Sequence[AnyPath] = (),
) -> LoadedRun:
    """Open a finished run again.

    A run of the command line names its experiment in `config.yaml`. Those that come with the
    project are rebuilt without more; a file of your own is imported only if you name it, since a
    folder must not bring code in by itself. A run of the Python interface needs its network.

    Args:
        path: The run's folder.
        model: The dense network; the run's weights are loaded into a copy of it.
        data: The run's splits, for a run that does not name them.
        experiment: The experiment file that made the run, or the name of one that comes with the
            project.
        include: More folders that the experiment file imports from.

    Returns:
        Network, data, layer table and summary; network and data are built when first used.

    Raises:
        UserError: The run is not finished, its experiment or network has to be named, or the
            weights belong to another network.
    """
    path = as_path(path)
    experiment = None if experiment is None else as_path(experiment, name="experiment")
    run = RunDir(path)
    summary = run.read_summary()
    if model is not None:
        if experiment is not None:
            raise UserError("load_run: give model or experiment, not both")
        loaded = copy.deepcopy(model)
        load_into(loaded, run.model)
        _say_other_forward(run, model)
        return LoadedRun(run.path, summary, lambda: (loaded, data))
    if experiment is None and not _names_experiment(run):
        raise UserError(
            f"{run.path}: was made from Python, so the folder does not say which network it is; "
            "give load_run(path, model=model)"
        )
    build = _experiments().find_parts(
        run,
        None if experiment is None else str(experiment),
        include=[as_path(one, name="include") for one in include],
    )

    def parts() -> Parts:
        network, splits = build()
        return network, data or splits

    return LoadedRun(run.path, summary, parts)


def _say_other_forward(run: RunDir, model: nn.Module) -> None:
    """Say that the network given computes something else than the run's, as far as is known."""
    record = run.path / "identity.json"
    made = read_json(record) if record.exists() else {}
    known = made.get("model") if isinstance(made, dict) else None
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not isinstance(known, dict) or made.get("python") != here:
        return
    if known.get("forward") != forward_digest(model):
        warn(
            f"{run.path}: the network given has the run's weights but not its forward: code or "
            "settings of its parts differ, so its outputs may, too"
        )


def _names_experiment(run: RunDir) -> bool:
    if not run.config.exists():
        return False
    settings = read_yaml_file(run.config, where=str(run.config), remedy="the file is damaged")
    return isinstance(settings, dict) and "experiment" in settings


def _experiments() -> Any:
    """The module that rebuilds experiments, as the installed project names it.

    `experiments` is built on `ws_learner`, so this package must not import it. It finds the module
    through the entry point `experiments` of the group `ws_learner.runs` (pyproject.toml).
    """
    for entry in entry_points(group="ws_learner.runs", name="experiments"):
        return entry.load()
    raise UserError(
        "load_run: the package `experiments`, which rebuilds a run of the command line, is "
        "not installed; install the whole project, or give load_run(path, model=model)"
    )
