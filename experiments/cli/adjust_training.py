"""Adjust unset options to the length of the training and the size of the data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from experiments.cli.adjust_settings import change_line
from experiments.cli.build import recipe_for_command
from experiments.cli.command import Command
from ws_learner.config import METHODS, SCHEDULES
from ws_learner.pruning import USUAL_INTERVAL, ramp_steps, usual_interval

if TYPE_CHECKING:
    from experiments.experiment import Experiment
    from ws_learner.config import Recipe

__all__ = ["adjust_batch", "adjust_training"]


def adjust_batch(command: Command, recipe: Recipe, *, examples: int) -> Command:
    """Limit an unset batch size to the number of training examples."""
    if "batch_size" in command.given or recipe.batch_size <= examples:
        return command
    why = f"the training split has {examples} examples"
    return _changed(command, "run", "batch_size", recipe.batch_size, examples, why=why)


def adjust_training(command: Command, experiment: Experiment) -> Command:
    """Fit batch, ramp, mask interval and phases to a pruning training of so many steps.

    Raises:
        UserError: What the user chose does not go together.
    """
    from ws_learner.training import check_steps

    examples = len(experiment.data.train)
    command = adjust_batch(command, _recipe(command, experiment), examples=examples)
    recipe = _recipe(command, experiment)
    method = METHODS[command.ws.ws_method]
    if method.trains_nm:
        command = _adjust_phases(command, recipe)
    elif "ws_iter_ratio_end" in method.settings:
        command = _adjust_ramp(command, recipe.total_steps(examples))
    check_steps(command.ws, recipe, examples=examples)
    return command


def _recipe(command: Command, experiment: Experiment) -> Recipe:
    return recipe_for_command(command, experiment.sparse_recipe)


def _adjust_ramp(command: Command, total: int) -> Command:
    why = f"the training has {total} steps"
    begin, end = _ramp(command, total)
    if begin >= end:
        command = _fit(command, "ws_iter_ratio_end", 1.0, why=why)
        if begin >= total:
            command = _fit(command, "ws_iter_ratio_beg", 0.0, why=why)
        begin, end = _ramp(command, total)
    ws = command.ws
    counted = ws.ws_update_frequency is None and not SCHEDULES[ws.ws_schedule].once
    if not counted:
        return command
    ramp, usual = end - begin, USUAL_INTERVAL
    interval = usual_interval(ramp)
    if interval < usual if ws.ws_mask_update_step is None else ws.ws_mask_update_step > ramp:
        why += f", {ramp} of them on the way to the target"
        before = usual if ws.ws_mask_update_step is None else ws.ws_mask_update_step
        command = _fit(command, "ws_mask_update_step", interval, why=why, before=before)
    return command


def _ramp(command: Command, total: int) -> tuple[int, int]:
    return ramp_steps(total, command.ws.ws_iter_ratio_beg, command.ws.ws_iter_ratio_end)


def _adjust_phases(command: Command, recipe: Recipe) -> Command:
    """Half of what one phase leaves goes to the other, where its usual share is too long."""
    ws, epochs = command.ws, recipe.nb_epochs
    tuned = METHODS[ws.ws_method].fine_tune_share
    shares = {"nm_dense_epochs": 0.05, "nm_fine_tune_epochs": tuned}
    for name, other in (list(shares), list(shares)[::-1]):
        chosen, usual = getattr(ws, name), shares[other] * epochs
        if chosen is not None and getattr(ws, other) is None and chosen < epochs < chosen + usual:
            half = (epochs - chosen) / 2
            why = f"--{name} is {chosen:g} of {epochs:g} epochs"
            command = _fit(command, other, half, why=why, before=usual)
    return command


def _fit(command: Command, name: str, value: Any, *, why: str, before: Any = None) -> Command:
    before = getattr(command.ws, name) if before is None else before
    if name in command.given or value == before:
        return command
    return _changed(command, "ws", name, before, value, why=why)


def _changed(
    command: Command, part: str, name: str, before: Any, after: Any, *, why: str
) -> Command:
    settings = dataclasses.replace(getattr(command, part), **{name: after})
    line = change_line(name, before, after, why=why)
    adjusted: dict[str, Any] = {part: settings, "adjusted": (*command.adjusted, line)}
    return dataclasses.replace(command, **adjusted)
