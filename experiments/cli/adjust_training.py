"""Adjust unset options to the length of the training and the size of the data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from experiments.cli.adjust_settings import as_flags
from experiments.cli.build import recipe_for_command
from experiments.cli.command import Command
from experiments.cli.discovery import bundled_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.experiment import Experiment
    from ws_learner.config import Recipe

__all__ = ["adjust_batch", "adjust_training"]

OF_LENGTH = (
    *("nb_epochs", "batch_size", "ws_method", "ws_schedule", "ws_mask_update_step"),
    *("ws_iter_ratio_beg", "ws_iter_ratio_end", "nm_dense_epochs", "nm_fine_tune_epochs"),
)
"""Settings whose user wants to know what else gave way."""


def adjust_batch(command: Command, recipe: Recipe, *, examples: int) -> Command:
    """Limit an unset batch size to the number of training examples."""
    from ws_learner.training import fit_batch

    fitted, line = fit_batch(recipe, examples=examples, chosen=command.given)
    return _with_batch(command, recipe, fitted, [line] if line else [])


def adjust_training(command: Command, experiment: Experiment) -> Command:
    """Fit batch, ramp, mask interval and phases to a pruning training of so many steps.

    Raises:
        UserError: What the user chose does not go together.
    """
    from ws_learner.training import check_steps, fit_length

    examples = len(experiment.data.train)
    recipe = recipe_for_command(command, experiment.sparse_recipe)
    fitted = fit_length(command.ws, recipe, examples=examples, chosen=command.given)
    command = _with_batch(command, recipe, fitted.recipe, fitted.lines)
    command = dataclasses.replace(command, ws=fitted.config)
    check_steps(fitted.config, fitted.recipe, examples=examples)
    return command


def _with_batch(command: Command, recipe: Recipe, fitted: Recipe, lines: Sequence[str]) -> Command:
    run = command.run
    if fitted.batch_size != recipe.batch_size:
        run = dataclasses.replace(run, batch_size=fitted.batch_size)
    said = tuple(map(as_flags, lines))
    if _is_usual(command):
        return dataclasses.replace(command, run=run, fitted=(*command.fitted, *said))
    return dataclasses.replace(command, run=run, adjusted=(*command.adjusted, *said))


def _is_usual(command: Command) -> bool:
    """Whether length and data are those that an experiment of the project has by itself."""
    own = {item.name for item in dataclasses.fields(command.options)}
    asked = command.given & {*own, *OF_LENGTH}
    return bundled_name(command.name) is not None and not asked
