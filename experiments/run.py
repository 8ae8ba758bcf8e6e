"""The command line's entry: parse, assemble, run, report.

`./run_local.sh [EXPERIMENT] [flags]` ends up here, as does `python -m experiments.run`.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.assemble import (
    OF_RECIPE,
    arithmetic_of,
    build,
    check_outputs,
    facts_of,
    recipe_of_command,
    show_report,
)
from experiments.flags import Command, parse
from experiments.identity import identity_of, place, resolved_settings
from experiments.one_line import in_one_line
from ws_learner.cluster.config import ClusterConfig
from ws_learner.config import FROM_TABLE
from ws_learner.errors import UserError
from ws_learner.nm_flags import NM_METHODS
from ws_learner.progress import say
from ws_learner.run_dir import RunDir

if TYPE_CHECKING:
    from torch import nn

    from experiments.experiment import Experiment
    from ws_learner.dialects.lpot_conf import LpotConf
    from ws_learner.dialects.nncf_conf import NncfConf
    from ws_learner.learner import WeightSparseLearner

__all__ = ["build", "dense_weights", "main", "make_learner"]


def main(
    argv: Sequence[str] | None = None,
    *,
    cluster: ClusterConfig | None = None,
    runs: Path = Path("runs"),
) -> int:
    """Run a command line, on Ray if a cluster is given; return the exit code, see `in_one_line`."""
    words = list(sys.argv[1:] if argv is None else argv)
    return in_one_line(lambda: _main(words, cluster=cluster, runs=runs))


def _main(words: Sequence[str], *, cluster: ClusterConfig | None, runs: Path) -> int:
    command = dataclasses.replace(parse(words), cluster=cluster, runs=runs)
    if command.run.exec_mode == "eval":
        return _evaluate(command)
    if command.lpot is not None:
        _lpot(command, command.lpot, words=words)
    elif command.nncf is not None:
        _nncf(command, command.nncf, words=words)
    elif command.run.learner == "full-prec":
        _full_prec(command, words=words)
    else:
        _weight_sparse(command, words=words)
    return 0


def _full_prec(command: Command, *, words: Sequence[str]) -> RunDir:
    """Train the dense network, unless that is done already."""
    from experiments.dense import train
    from experiments.measures import add_measures

    experiment = build(command)
    recipe = recipe_of_command(command, experiment.dense_recipe)
    recipe.total_steps(len(experiment.data.train))  # a batch too large is refused at once
    identity = identity_of(command, experiment, recipe)
    run = place(command, f"{experiment.name}-dense", identity)
    with run.locked():
        run.claim(resolved_settings(command), identity)
        if not run.finished:
            train(
                experiment,
                recipe=recipe,
                arithmetic=arithmetic_of(command),
                seed=command.run.seed,
                run=run,
                facts=facts_of(command, experiment, words),
                cluster=command.cluster,
            )
    add_measures(run, experiment, arithmetic_of(command))
    show_report(run)
    return run


def dense_weights(command: Command, experiment: Experiment) -> Path | None:
    """File of the dense weights; trains them first if there are none and they are needed."""
    if command.run.dense_checkpoint is not None:
        return command.run.dense_checkpoint
    if experiment.checkpoint is not None:
        return experiment.checkpoint
    ws = command.ws
    by_table = ws.ws_prune_ratio_prtl in FROM_TABLE
    fresh = ws.ws_method in NM_METHODS
    if (ws.ws_init == "scratch" or fresh) and by_table and not ws.enbl_dst:
        if fresh:
            say(f"{ws.ws_method} trains from fresh weights; --dense_checkpoint starts from others")
        return None
    say(f"{experiment.name} comes without dense weights: the dense network is trained first")
    own: dict[str, Any] = dict.fromkeys((*OF_RECIPE, "warmup_epochs"))
    flags = dataclasses.replace(command.run, learner="full-prec", run_dir=None, **own)
    dense = dataclasses.replace(command, run=flags)
    weights = _full_prec(dense, words=[command.name, "--learner", "full-prec"]).model
    say("the dense network is ready; now it is pruned")
    return weights


def _weight_sparse(command: Command, *, words: Sequence[str]) -> None:
    from experiments.measures import add_measures
    from experiments.weights import load_weights
    from ws_learner.files import sha256_of
    from ws_learner.sparsify import check_steps

    experiment = build(command)
    check_outputs(command, experiment)
    recipe = recipe_of_command(command, experiment.sparse_recipe)
    check_steps(command.ws, recipe, examples=len(experiment.data.train))
    weights = dense_weights(command, experiment)
    if weights is not None:
        load_weights(experiment.model, weights)
    teacher = None
    if command.run.dst_checkpoint is not None:
        teacher = copy.deepcopy(experiment.model)
        load_weights(teacher, command.run.dst_checkpoint)
    contents = {"dense_checkpoint": weights, "ws_ratios": command.ws.ws_ratios}
    contents |= {"ws_rollouts": command.ws.ws_rollouts}
    contents |= {"dst_checkpoint": command.run.dst_checkpoint}
    digests = {
        name: sha256_of(path) if path is not None and path.is_file() else None
        for name, path in contents.items()
    }
    identity = identity_of(command, experiment, recipe, **digests)
    run = place(command, f"{experiment.name}-{command.ws.ws_method}", identity)
    with run.locked():
        run.claim(resolved_settings(command), identity)
        if not run.finished:
            facts = facts_of(command, experiment, words)
            if weights is None:
                facts["dense_accuracy"] = None  # there is no dense network
            learner = make_learner(command, experiment, run=run.path, teacher=teacher, facts=facts)
            learner.fit()
    add_measures(run, experiment, arithmetic_of(command))
    show_report(run)


def make_learner(
    command: Command,
    experiment: Experiment,
    *,
    run: Path,
    teacher: nn.Module | None = None,
    facts: dict[str, Any] | None = None,
) -> WeightSparseLearner:
    """The learner that a command line asks for, at work in the folder `run`."""
    from ws_learner.learner import WeightSparseLearner

    return WeightSparseLearner(
        experiment.model,
        experiment.data,
        loss=experiment.loss,
        metric=experiment.metric,
        recipe=recipe_of_command(command, experiment.sparse_recipe),
        teacher=teacher,
        run_dir=run,
        config=dataclasses.replace(
            command.ws, ws_location=command.ws.ws_location or experiment.location
        ),
        agent=command.ddpg,
        arithmetic=arithmetic_of(command),
        seed=command.run.seed,
        workers=command.run.workers,
        cluster=command.cluster,
        facts=facts,
    )


def _lpot(command: Command, conf: LpotConf, *, words: Sequence[str]) -> None:
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


def _nncf(command: Command, conf: NncfConf, *, words: Sequence[str]) -> None:
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


def _evaluate(command: Command) -> int:
    """Open a finished run's weights again and measure them."""
    if command.run.run_dir is None:
        raise UserError("--exec_mode eval: name the run with --run_dir runs/<one>")
    from experiments.reopen import evaluate_run

    return evaluate_run(RunDir(command.run.run_dir), arithmetic_of(command))


if __name__ == "__main__":
    sys.exit(main())
