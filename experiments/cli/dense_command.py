"""Dense training runs: requested, or needed before pruning."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.adjust_training import adjust_batch
from experiments.cli.build import (
    OF_RECIPE,
    build,
    device_for_command,
    recipe_for_command,
    run_facts,
    say_adjusted,
)
from experiments.cli.command import Command
from experiments.cli.run_identity import build_identity
from experiments.cli.run_lifecycle import run_or_reuse
from ws_learner.config import METHODS, PROTOCOLS, WeightSparseConfig
from ws_learner.core import RunDir, UserError, expect_phases, folder_name, plan_phases, say

if TYPE_CHECKING:
    from experiments.experiment import Experiment

__all__ = ["command_phases", "dense_weights", "full_prec"]


def full_prec(command: Command, *, words: Sequence[str], final: bool = True) -> RunDir:
    """Train the dense network, unless that is done already; `final`: the command ends with it."""
    from experiments.cli.dense import train

    experiment = build(command)
    recipe = recipe_for_command(command, experiment.dense_recipe)
    command = adjust_batch(command, recipe, examples=len(experiment.data.train))
    recipe = recipe_for_command(command, experiment.dense_recipe)
    say_adjusted(command)
    recipe.total_steps(len(experiment.data.train))  # a batch too large is refused at once
    identity = build_identity(command, experiment, recipe)
    work = partial(
        train,
        experiment,
        recipe=recipe,
        compute=device_for_command(command),
        seed=command.run.seed,
        facts=run_facts(command, experiment, words),
        cluster=command.cluster,
    )
    with plan_phases(["dense"]):
        return run_or_reuse(command, experiment, identity, work, kind="dense", final=final)


def starts_fresh(ws: WeightSparseConfig) -> bool:
    """Whether the training starts from fresh weights, so that no dense network is needed."""
    by_table = not PROTOCOLS[ws.ws_prune_ratio_prtl].needs_weights
    fresh = ws.ws_init == "scratch" or METHODS[ws.ws_method].trains_nm
    return fresh and by_table and not ws.enbl_dst


def command_phases(command: Command, experiment: Experiment) -> tuple[str, ...]:
    """The phases of a pruning command; the dense training first, if it is needed."""
    from ws_learner.search import phases_of

    there = command.run.dense_checkpoint or experiment.checkpoint or experiment.trained
    before = () if there or starts_fresh(command.ws) else ("dense",)
    return (*before, *phases_of(command.ws))


def _expect_time(command: Command, experiment: Experiment) -> None:
    """Say how long dense training and pruning will take, if earlier runs of both are here."""
    from ws_learner.report import expected_seconds
    from ws_learner.search import units_of

    data, seconds, source = experiment.data, dict[str, float](), None
    try:
        steps = experiment.dense_recipe.total_steps(len(data.train))
    except UserError:  # the training fits its recipe to the data, or says why it cannot
        return
    recipe = recipe_for_command(command, experiment.sparse_recipe)
    for kind, units in (
        ("dense", {"dense": float(steps)}),
        (command.ws.ws_method, units_of(command.ws, recipe, data)),
    ):
        any_hash = f"{folder_name(f'{experiment.name}-{kind}')}-{0:08x}"
        found, run = expected_seconds(command.runs / any_hash, units)
        seconds, source = seconds | found, source or run
    if source is not None:
        expect_phases(seconds, source=f"the phases of {source} and others")


def dense_weights(command: Command, experiment: Experiment) -> Path | None:
    """File of the dense weights; trains them first if there are none and they are needed.

    None if the network needs none: it has them already, or is trained from fresh weights.
    """
    if command.run.dense_checkpoint is not None:
        if experiment.origin:
            say(f"dense weights: {command.run.dense_checkpoint}")
        return command.run.dense_checkpoint
    if experiment.checkpoint is not None:
        return experiment.checkpoint
    if experiment.trained:
        say(f"dense weights: {experiment.origin or experiment.name}")
        return None
    ws = command.ws
    if starts_fresh(ws):
        if METHODS[ws.ws_method].trains_nm:
            say(f"{ws.ws_method} trains from fresh weights; --dense_checkpoint starts from others")
        return None
    why = experiment.origin or f"{experiment.name} comes without dense weights"
    say(f"{why}: the dense network is trained first")
    own: dict[str, Any] = dict.fromkeys((*OF_RECIPE, "warmup_epochs"))
    own |= {"name": None, "tag": ()}  # of the sparse run
    flags = dataclasses.replace(command.run, learner="full-prec", run_dir=None, **own)
    given = command.given - own.keys()
    _expect_time(command, experiment)
    dense = dataclasses.replace(command, run=flags, given=given, adjusted=(), fitted=())
    words = [command.name, "--learner", "full-prec"]
    weights = full_prec(dense, words=words, final=False).model
    say("the dense network is ready; now it is pruned")
    return weights
