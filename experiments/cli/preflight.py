"""Preflight checks: paths, and whether the target is reachable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Command
from ws_learner.core import complain, policy_path
from ws_learner.report import check_trackers

if TYPE_CHECKING:
    from ws_learner.learner import WeightSparseLearner

__all__ = ["check_layers", "check_paths"]


def check_paths(command: Command) -> None:
    """Look at every file that is read and every folder that is written.

    Raises:
        UserError: Some are not there, or cannot be written; all of them at once. Or a tracker's
            package is missing.
    """
    check_trackers(command.run.track)
    complain([*_unreadable(command), *_unwritable(command)])


def _unreadable(command: Command) -> Iterator[str]:
    files = {
        "dense_checkpoint": command.run.dense_checkpoint,
        "dst_checkpoint": command.run.dst_checkpoint,
        "ws_rollouts": command.ws.ws_rollouts,
    }
    if isinstance(command.ws.ws_ratios, Path):
        files["ws_ratios"] = command.ws.ws_ratios
    for name, path in files.items():
        if path is not None and not path.exists():
            yield f"--{name} {path}: no such file"
    for name in ("ws_policy", "ws_from_policy"):
        given = getattr(command.ws, name)
        if given is not None and not policy_path(given).exists():
            yield (
                f"--{name} {given}: no policy there; give the folder of a run that searched with "
                "protocol optimal, or its policy.safetensors"
            )


def _unwritable(command: Command) -> Iterator[str]:
    if command.run.exec_mode == "eval":
        return
    places = {"run_dir": command.run.run_dir or command.runs}
    if command.ws.ws_save_path is not None:
        places["ws_save_path"] = command.ws.ws_save_path.parent
    for name, path in places.items():
        there = _nearest(path)
        if not there.is_dir():
            yield f"--{name} {path}: {there} is no folder"
        elif not os.access(there, os.W_OK | os.X_OK):
            yield f"--{name} {path}: {there} cannot be written; choose another place"


def _nearest(path: Path) -> Path:
    """The path, or the folder above it that exists."""
    path = path.absolute()
    return path if path.exists() or path == path.parent else _nearest(path.parent)


def check_layers(learner: WeightSparseLearner) -> None:
    """See whether there are layers to prune, and bounds, metric and a saved policy fit them.

    Raises:
        UserError: They do not.
    """
    from ws_learner.search import fixed_profile, open_policy, refuse_bounds

    layers = learner.layers()
    learner.check(trains=True, layers=layers)
    for name in ("ws_policy", "ws_from_policy"):
        given = getattr(learner.config, name)
        if given is not None:
            open_policy(given, layers, setting=name)
    if learner.config.ws_ratios is not None:
        fixed_profile(learner.model, layers, learner.config)
    if learner.config.ws_prune_ratio_prtl != "given" and not learner.config.budgets:
        refuse_bounds(learner.model, layers, learner.config)
