"""Runs from other tools' config files: LPOT's YAML, NNCF's JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from experiments.cli.build import (
    build,
    check_outputs,
    device_for_command,
    recipe_for_command,
    run_facts,
)
from experiments.cli.command import Command
from experiments.cli.dense_command import dense_weights
from experiments.cli.run_identity import build_identity
from experiments.cli.run_lifecycle import run_or_reuse
from ws_learner.compat import LpotConf
from ws_learner.core import UserError, say

if TYPE_CHECKING:
    from ws_learner.compat import NncfConf

__all__ = ["lpot_run", "nncf_run"]


def lpot_run(command: Command, conf: LpotConf, *, words: Sequence[str]) -> None:
    """Train and prune as an LPOT file says; the command line's recipe flags override it."""
    from experiments.cli.dense_weights import load_weights, weights_digest
    from experiments.cli.lpot_experiment import build_lpot
    from experiments.cli.lpot_teacher import check_lpot_flags, load_teacher
    from ws_learner.compat import build_lpot_recipe, run_lpot

    check_lpot_flags(command, conf)
    experiment = build_lpot(command, conf)
    check_outputs(command, experiment, searches=False)
    weights = command.run.dense_checkpoint or experiment.checkpoint
    if weights is None and experiment.trained:
        say(f"dense weights: {experiment.origin or experiment.name}")
    elif weights is None:
        say("no --dense_checkpoint: training starts from fresh weights")
    else:
        load_weights(experiment.model, weights)
    teacher = load_teacher(command, experiment, conf, start=weights)
    own = build_lpot_recipe(conf, experiment.data, experiment.sparse_recipe)
    recipe = recipe_for_command(command, own)
    pruners = [dataclasses.asdict(pruner) for pruner in conf.pruners]
    identity = build_identity(
        command,
        experiment,
        recipe,
        lpot=dataclasses.asdict(dataclasses.replace(conf, path=None)) | {"pruners": pruners},
        dense_checkpoint=weights_digest(weights),
        dst_checkpoint=weights_digest(command.run.dst_checkpoint),
    )
    work = partial(
        run_lpot,
        conf,
        experiment.model,
        experiment.data,
        loss=experiment.loss,
        metric=experiment.metric,
        recipe=recipe,
        teacher=teacher,
        config=command.ws,
        compute=device_for_command(command),
        seed=command.run.seed,
        cluster=command.cluster,
        facts=run_facts(command, experiment, words),
        outputs=command.run.outputs or experiment.outputs,
        claims=False,
    )
    run_or_reuse(command, experiment, identity, lambda run: work(run_dir=run.path), kind="lpot")


def nncf_run(command: Command, conf: NncfConf, *, words: Sequence[str]) -> None:
    """Movement sparsity as an NNCF file says, on the fine-tuned network."""
    import ws_learner.deploy as deploy
    from experiments.cli.dense_weights import load_weights, weights_digest
    from ws_learner.compat import run_nncf

    if command.run.learner == "full-prec":
        raise UserError(f"--config {conf.path}: is a pruning config; leave --learner full-prec out")
    experiment = build(command)
    weights = dense_weights(command, experiment)
    if weights is not None:
        load_weights(experiment.model, weights)
    recipe = recipe_for_command(command, experiment.sparse_recipe)
    identity = build_identity(
        command,
        experiment,
        recipe,
        nncf=conf.model_dump(mode="json"),
        dense_checkpoint=weights_digest(weights),
    )
    work = partial(
        run_nncf,
        conf,
        experiment.model,
        experiment.data,
        loss=experiment.loss,
        metric=experiment.metric,
        recipe=recipe,
        deploy=deploy,
        config=command.ws,
        compute=device_for_command(command),
        seed=command.run.seed,
        cluster=command.cluster,
        facts=run_facts(command, experiment, words),
        outputs=command.run.outputs or experiment.outputs,
        claims=False,
    )
    run_or_reuse(command, experiment, identity, lambda run: work(run_dir=run.path), kind="nncf")
