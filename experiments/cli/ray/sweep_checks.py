"""What can be seen of a sweep before it starts: its file, its settings, their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.command import Command
from experiments.cli.flag_aliases import ALIASES, canonical_words
from experiments.cli.flags import parse
from experiments.cli.ray.sweep_plan import Plan, read_plan
from experiments.cli.ray.sweep_trial import trial_arguments
from ws_learner.core import UserError, suggest

__all__ = ["check_sweep"]

NOT_SWEPT = {
    *("run_dir", "config", "workers", "learner", "exec_mode", "data_dir", "nb_epochs"),
    "include",
}


def check_sweep(path: Path, words: Sequence[str]) -> tuple[Plan, Command]:
    """Read a sweep's file and its command line.

    Values that some trials cannot have end these trials; a sweep of nothing else is refused.

    Raises:
        UserError: The file or the command line makes no sense.
    """
    plan, command = read_plan(path), parse(words)
    parts = (command.run, command.ws, command.ddpg, command.options)
    own = {item.name for item in dataclasses.fields(command.options)}
    known = {item.name for part in parts for item in dataclasses.fields(part)} - NOT_SWEPT
    for name in plan.space:
        if name not in known:
            raise UserError(
                f"--sweep {path}: {name}: no such setting; {suggest(name, [*known, *ALIASES])}"
            )
    shared, first = canonical_words(words, own=own), ""
    for trial in plan.trials():
        try:
            parse([*shared, *trial_arguments(trial)])
        except UserError as error:
            first = first or str(error)
        else:
            return plan, command
    raise UserError(f"--sweep {path}: no trial has values that are allowed, the first: {first}")
