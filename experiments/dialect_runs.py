"""Runs as another tool's file says: LPOT's YAML, NNCF's JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.assemble import (
    arithmetic_of,
    build,
    check_outputs,
    facts_of,
    recipe_of_command,
    show_report,
)
from experiments.command import Command
from experiments.dense_run import dense_weights
from experiments.identity import identity_of, place, resolved_settings
from ws_learner.dialects.lpot_conf import LpotConf
from ws_learner.errors import UserError
from ws_learner.progress import say

if TYPE_CHECKING:
    from ws_learner.dialects.nncf_conf import NncfConf

__all__ = ["lpot_run", "nncf_run"]


def lpot_run(command: Command, conf: LpotConf, *, words: Sequence[str]) -> None:
    """Train and prune as an LPOT file says; the command line's recipe flags go before it."""
    from experiments.lpot import build_lpot, recipe_of, run_lpot
    from experiments.lpot_teacher import check_flags, teacher_loss
    from experiments.measures import add_measures
    from experiments.weights import load_weights
    from ws_learner.files import sha256_of

    check_flags(command, conf)
    experiment = build_lpot(command, conf)
    check_outputs(command, experiment, searches=False)
    weights = command.run.dense_checkpoint or experiment.checkpoint
    if weights is None:
        say("no --dense_checkpoint: training starts from fresh weights")
    else:
        load_weights(experiment.model, weights)
    arithmetic = arithmetic_of(command)
    distil = teacher_loss(command, experiment, conf, start=weights, arithmetic=arithmetic)
    teacher = command.run.dst_checkpoint
    recipe = recipe_of_command(command, recipe_of(conf, experiment.data, experiment.sparse_recipe))
    pruners = [dataclasses.asdict(pruner) for pruner in conf.pruners]
    identity = identity_of(
        command,
        experiment,
        recipe,
        lpot=dataclasses.asdict(dataclasses.replace(conf, path=None)) | {"pruners": pruners},
        dense_checkpoint=sha256_of(weights) if weights is not None else None,
        dst_checkpoint=sha256_of(teacher) if teacher is not None else None,
    )
    run = place(command, f"{experiment.name}-lpot", identity)
    with run.locked():
        run.claim(resolved_settings(command), identity)
        if not run.finished:
            run_lpot(
                experiment,
                conf,
                recipe=recipe,
                arithmetic=arithmetic,
                seed=command.run.seed,
                run=run,
                facts=facts_of(command, experiment, words),
                distil=distil,
                cluster=command.cluster,
            )
    add_measures(run, experiment, arithmetic_of(command))
    show_report(run)


def nncf_run(command: Command, conf: NncfConf, *, words: Sequence[str]) -> None:
    """Movement sparsity as an NNCF file says, on the fine-tuned network."""
    from experiments.nncf import run_nncf
    from experiments.weights import load_weights
    from ws_learner.files import sha256_of

    if command.run.learner == "full-prec":
        raise UserError(f"--config {conf.path}: is a pruning config; leave --learner full-prec out")
    experiment = build(command)
    weights = dense_weights(command, experiment)
    if weights is not None:
        load_weights(experiment.model, weights)
    recipe = recipe_of_command(command, experiment.sparse_recipe)
    identity = identity_of(
        command,
        experiment,
        recipe,
        nncf=conf.model_dump(mode="json"),
        dense_checkpoint=sha256_of(weights) if weights is not None else None,
    )
    run = place(command, f"{experiment.name}-nncf", identity)
    with run.locked():
        run.claim(resolved_settings(command), identity)
        if not run.finished:
            run_nncf(
                experiment,
                conf,
                settings=command.ws,
                recipe=recipe,
                arithmetic=arithmetic_of(command),
                seed=command.run.seed,
                run=run,
                facts=facts_of(command, experiment, words),
                cluster=command.cluster,
            )
    show_report(run)
