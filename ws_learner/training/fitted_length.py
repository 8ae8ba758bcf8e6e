"""Batch, ramp, mask interval and phases, fitted to the number of steps that the data allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ws_learner.config import METHODS, SCHEDULES, Recipe, WeightSparseConfig
from ws_learner.core import adjusted_line
from ws_learner.pruning import USUAL_INTERVAL, ramp_steps, usual_interval

__all__ = ["FittedLength", "fit_batch", "fit_length"]


@dataclass(frozen=True, kw_only=True)
class FittedLength:
    """Settings and recipe of a training whose length fits the data.

    Attributes:
        config: Settings of the learner.
        recipe: The training.
        lines: What was changed, one line each.
    """

    config: WeightSparseConfig
    recipe: Recipe
    lines: tuple[str, ...] = ()


def fit_batch(recipe: Recipe, *, examples: int, chosen: Collection[str]) -> tuple[Recipe, str]:
    """Limit an unset batch size to the number of training examples.

    Args:
        recipe: The training.
        examples: Size of the training split; at 0 nothing fits, and nothing is changed.
        chosen: Names of the settings that the user chose.

    Returns:
        The recipe, and a line if it was changed, or an empty text.
    """
    if "batch_size" in chosen or not 0 < examples < recipe.batch_size:
        return recipe, ""
    why = f"the training split has {examples} examples"
    line = adjusted_line("batch_size", recipe.batch_size, examples, why=why)
    return dataclasses.replace(recipe, batch_size=examples), line


def fit_length(
    config: WeightSparseConfig,
    recipe: Recipe,
    *,
    examples: int,
    chosen: Collection[str],
    interval: bool = True,
) -> FittedLength:
    """Fit what was not chosen to the length of the training, as far as it must give way.

    Args:
        config: Settings of the learner.
        recipe: The training.
        examples: Size of the training split.
        chosen: Names of the settings that the user chose.
        interval: Write the interval of mask updates into the settings where the usual one is too
            long. If not, the training chooses the same number by itself.
    """
    recipe, line = fit_batch(recipe, examples=examples, chosen=chosen)
    lines = [line] if line else []
    if examples < recipe.batch_size:  # refused later
        return FittedLength(config=config, recipe=recipe, lines=tuple(lines))
    method = METHODS[config.ws_method]
    if method.trains_nm:
        changes = _phases(config, recipe)
    elif "ws_iter_ratio_end" in method.settings:
        changes = _ramp(config, recipe.total_steps(examples), chosen)
    else:
        changes = iter(())
    values = {}
    for name, before, value, why in changes:
        if name in chosen or value == before:
            continue
        lines.append(adjusted_line(name, before, value, why=why))
        if interval or name != "ws_mask_update_step":
            values[name] = value
    if values:
        config = dataclasses.replace(config, **values)
    return FittedLength(config=config, recipe=recipe, lines=tuple(lines))


_Change = tuple[str, Any, Any, str]
"""A setting, its value, what it could be, and why."""


def _ramp(config: WeightSparseConfig, total: int, chosen: Collection[str]) -> Iterator[_Change]:
    why = f"the training has {total} steps"
    start, stop = config.ws_iter_ratio_beg, config.ws_iter_ratio_end
    begin, end = ramp_steps(total, start, stop)
    if begin >= end:
        yield "ws_iter_ratio_end", stop, 1.0, why
        stop = stop if "ws_iter_ratio_end" in chosen else 1.0
        if begin >= total:
            yield "ws_iter_ratio_beg", start, 0.0, why
            start = start if "ws_iter_ratio_beg" in chosen else 0.0
        begin, end = ramp_steps(total, start, stop)
    counted = config.ws_update_frequency is None and not SCHEDULES[config.ws_schedule].once
    if not counted or begin >= end:
        return
    ramp, every = end - begin, config.ws_mask_update_step
    fitting = usual_interval(ramp)
    if fitting < USUAL_INTERVAL if every is None else every > ramp:
        before = USUAL_INTERVAL if every is None else every
        why += f", {ramp} of them on the way to the target"
        yield "ws_mask_update_step", before, fitting, why


def _phases(config: WeightSparseConfig, recipe: Recipe) -> Iterator[_Change]:
    """Half of what one phase leaves goes to the other, where its usual share is too long."""
    epochs, tuned = recipe.nb_epochs, METHODS[config.ws_method].fine_tune_share
    shares = {"nm_dense_epochs": 0.05, "nm_fine_tune_epochs": tuned}
    for name, other in (list(shares), list(shares)[::-1]):
        taken, usual = getattr(config, name), shares[other] * epochs
        if taken is not None and getattr(config, other) is None and taken < epochs < taken + usual:
            why = f"`{name}` is {taken:g} of {epochs:g} epochs"
            yield other, usual, (epochs - taken) / 2, why
