"""Run identity: all settings that change the result, and the run directory they determine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.command import Command, plain_value
from experiments.cli.find_own_file import neighbour_digests
from experiments.cli.own_file import imports_of
from ws_learner.config import as_recorded, identity_settings
from ws_learner.core import RunDir, folder_name, identity_hash, say, sha256_of, write_text

if TYPE_CHECKING:
    from experiments.experiment import Experiment
    from ws_learner.config import Recipe

__all__ = [
    "build_identity",
    "default_settings",
    "locate_run",
    "refuse_other_run",
    "resolved_settings",
]

NOT_IN_IDENTITY = {
    *("run_dir", "include", "data_dir", "data_workers", "workers", "exec_mode", "preset"),
    *("dense_checkpoint", "dst_checkpoint", "ws_save_path", "ws_ratios", "ws_rollouts"),
    *("ws_policy", "ws_from_policy"),
}
"""Settings that do not change the result; files among them count by their content."""


def resolved_settings(command: Command) -> dict[str, Any]:
    """Every setting, with the precision that `auto` means on this machine."""
    from ws_learner.core import choose_device

    bf16 = choose_device(command.run.precision).bf16
    settings = command.settings() | {"precision": "bf16" if bf16 else "fp32"}
    for name in ("outputs", "include"):  # younger than many runs, whose names must stay
        if not settings[name]:
            del settings[name]
    return settings


def default_settings(command: Command) -> dict[str, Any]:
    """The default of every setting of a command, under the name that `resolved_settings` uses."""
    from ws_learner.core import choose_device

    flat: dict[str, Any] = {}
    for part in (command.run, command.ws, command.ddpg, command.options):
        for item in dataclasses.fields(part):
            made = item.default_factory
            if item.default is not dataclasses.MISSING:
                flat[item.name] = plain_value(item.default)
            elif made is not dataclasses.MISSING:
                flat[item.name] = plain_value(made())
    flat["precision"] = "bf16" if choose_device("auto").bf16 else "fp32"
    return flat


def build_identity(
    command: Command, experiment: Experiment, recipe: Recipe, **more: Any
) -> dict[str, Any]:
    """Everything that changes the result; a user's own experiment file counts by its content."""
    from ws_learner.pruning import USUAL_INTERVAL

    settings = resolved_settings(command)
    source = command.experiment.__file__
    own = source is not None and not command.experiment.__name__.startswith("experiments.")
    more |= {"recipe": recipe.identity()}
    more |= {"file": sha256_of(Path(source))} if own and source else {}
    if own and (neighbours := neighbour_digests(command.experiment)):
        more |= {"neighbours": neighbours}
    if command.run.learner == "full-prec":
        parts = (command.ws, command.ddpg)
        pruning = {item.name for part in parts for item in dataclasses.fields(part)}
        settings = {k: v for k, v in settings.items() if k not in pruning}
    else:
        by_file = command.lpot is not None or command.nncf is not None
        settings = identity_settings(settings, searches=False if by_file else None)
    kept = {k: v for k, v in settings.items() if k not in NOT_IN_IDENTITY}
    kept |= experiment.stands_for
    if kept.get("ws_mask_update_step", 0) is None:  # the usual interval, as it was once spelled
        kept["ws_mask_update_step"] = USUAL_INTERVAL
    return kept | {"experiment": experiment.name, "data": experiment.data.digest} | more


def locate_run(
    command: Command, stem: str, identity: dict[str, Any]
) -> tuple[RunDir, dict[str, Any]]:
    """The run's directory, and its identity in the words of the version that made it.

    The directory is --run_dir, or `stem` and the identity's hash.
    """
    stem = folder_name(stem)
    run = RunDir(command.run.run_dir or command.runs / f"{stem}-{identity_hash(identity)}")
    earlier = [as_recorded(identity, {})]  # older than some settings of the search
    if command.run.precision == "auto":
        earlier = [one | {"precision": "auto"} for one in (identity, *earlier)] + earlier
    alone = [
        {name: value for name, value in one.items() if name != "neighbours"}
        for one in (identity, *earlier)
        if "neighbours" in one
    ]
    if command.run.run_dir is None and not run.path.exists():
        named = [command.runs / f"{stem}-{identity_hash(older)}" for older in earlier]
        found = [path for path in named if path.exists()]
        named = [command.runs / f"{stem}-{identity_hash(older)}" for older in alone]
        found += [path for path in named if path.exists() and _are_older(command, path)]
        run = RunDir(found[0]) if found else run
    if command.run.precision == "auto":
        _say_what_auto_was(run, identity)
    say(f"run directory: {run.path}{' (finished)' if run.finished else ''}")
    made = run.record()
    if made and "neighbours" not in made:  # older than the record of what a file imports
        identity = {name: value for name, value in identity.items() if name != "neighbours"}
    return run, as_recorded(identity, made) if made else identity


def refuse_other_run(command: Command, identity: dict[str, Any]) -> None:
    """Refuse --run_dir if it holds another run, while the dense weights are not known yet.

    Raises:
        UserError: It was made with other settings, whatever the dense weights were.
    """
    if command.run.run_dir is None:
        return
    run = RunDir(command.run.run_dir)
    made = run.record()
    asked = identity | {"dense_checkpoint": made.get("dense_checkpoint")}
    if made.get("precision") == "auto" == command.run.precision:
        asked["precision"] = "auto"
    if "neighbours" not in made:
        asked.pop("neighbours", None)
    run.refuse_other(as_recorded(asked, made) if made else asked, given=command.given)


def _are_older(command: Command, run: Path) -> bool:
    """Whether what the experiment file imports has not changed since a run was begun."""
    imports, record = imports_of(command.experiment), run / "identity.json"
    if imports is None or not record.exists():
        return False
    return all(file.stat().st_mtime <= record.stat().st_mtime for file in imports.files)


def _say_what_auto_was(run: RunDir, identity: dict[str, Any]) -> None:
    """Correct the record of an older run, made while `auto` was still stored literally."""
    made = run.record()
    if made.get("precision") == "auto":
        made["precision"] = identity["precision"]
        record = run.path / "identity.json"
        write_text(record, json.dumps(made, indent=2, sort_keys=True) + "\n")
