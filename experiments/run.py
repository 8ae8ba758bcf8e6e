"""Entry point of the command line: parse, assemble, run, report.

`./run_local.sh [EXPERIMENT] [flags]` ends up here, as does `python -m experiments.run`.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file: import from the root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.cli.adjust_training import adjust_training
from experiments.cli.build import (
    build,
    check_outputs,
    device_for_command,
    recipe_for_command,
    run_facts,
    say_adjusted,
)
from experiments.cli.command import Command
from experiments.cli.config_file_runs import lpot_run, nncf_run
from experiments.cli.dense_command import command_phases, dense_weights, full_prec
from experiments.cli.exit_codes import run_with_exit_code
from experiments.cli.flags import parse
from experiments.cli.language_flags import is_language_model
from experiments.cli.language_run import evaluate_language_run, language_run
from experiments.cli.own_file import imports_of
from experiments.cli.preflight import check_layers, check_paths
from experiments.cli.run_identity import build_identity, refuse_other_run
from experiments.cli.run_lifecycle import run_or_reuse
from ws_learner.config import ClusterConfig
from ws_learner.core import RunDir, UserError, plan_phases, policy_path, quiet
from ws_learner.report import find_run

if TYPE_CHECKING:
    from torch import nn

    from experiments.experiment import Experiment
    from ws_learner.learner import WeightSparseLearner

__all__ = ["build", "checked_experiment", "dense_weights", "main", "make_learner"]


def main(
    argv: Sequence[str] | None = None,
    *,
    cluster: ClusterConfig | None = None,
    runs: Path = Path("runs"),
    prog: str = "./run_local.sh",
) -> int:
    """Run a command line, on Ray if a cluster is given; return the exit code.

    Args:
        argv: The words, instead of the process's own.
        cluster: Runs on Ray.
        runs: Folder of the run directories.
        prog: What the help page calls the command.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return run_with_exit_code(
        lambda: _main(words, cluster=cluster, runs=runs, prog=prog), words=words
    )


def _main(words: Sequence[str], *, cluster: ClusterConfig | None, runs: Path, prog: str) -> int:
    command = dataclasses.replace(parse(words, prog=prog), cluster=cluster, runs=runs)
    with quiet(command.run.quiet):
        return _run(command, words)


def _run(command: Command, words: Sequence[str]) -> int:
    check_paths(command)
    if command.run.exec_mode == "eval":
        return _evaluate(command)
    if is_language_model(command.experiment):
        language_run(command, words=words)
        return 0
    if command.lpot is not None:
        lpot_run(command, command.lpot, words=words)
    elif command.nncf is not None:
        nncf_run(command, command.nncf, words=words)
    elif command.run.learner == "full-prec":
        full_prec(command, words=words)
    else:
        _weight_sparse(command, words=words)
    return 0


def checked_experiment(command: Command) -> tuple[Command, Experiment]:
    """Build the experiment of a command line and check what does not need its layers.

    Returns:
        The command, with settings adjusted to the experiment, and the experiment.

    Raises:
        UserError: The settings do not go together.
    """
    experiment = build(command)
    check_outputs(command, experiment)
    command = adjust_training(command, experiment)
    say_adjusted(command)
    recipe_for_command(command, experiment.sparse_recipe)
    return command, experiment


def _weight_sparse(command: Command, *, words: Sequence[str]) -> None:
    command, experiment = checked_experiment(command)
    untrained = command.run.dense_checkpoint is None and experiment.checkpoint is None
    if untrained or command.ws.ws_policy or command.ws.ws_from_policy:
        check_layers(make_learner(command, experiment, run=command.runs))  # before it is trained
    with plan_phases(command_phases(command, experiment)):
        _prune(command, experiment, words=words)


def _prune(command: Command, experiment: Experiment, *, words: Sequence[str]) -> None:
    from experiments.cli.dense_weights import load_weights, weights_digest

    recipe = recipe_for_command(command, experiment.sparse_recipe)
    digests = _digests(command)
    if "dense" in command_phases(command, experiment):  # before it is trained
        refuse_other_run(command, build_identity(command, experiment, recipe, **digests))
    weights = dense_weights(command, experiment)
    if weights is not None:
        load_weights(experiment.model, weights)
    teacher = None
    if command.run.dst_checkpoint is not None:
        teacher = copy.deepcopy(experiment.model)
        load_weights(teacher, command.run.dst_checkpoint, flag="--dst_checkpoint ")
    digests["dense_checkpoint"] = weights_digest(weights)
    identity = build_identity(command, experiment, recipe, **digests)

    def prune(run: RunDir) -> None:
        facts = run_facts(command, experiment, words)
        if weights is None and not experiment.trained:
            facts["dense_accuracy"] = None  # there is no dense network
        learner = make_learner(command, experiment, run=run.path, teacher=teacher, facts=facts)
        learner.fit()

    run_or_reuse(command, experiment, identity, prune, kind=command.ws.ws_method)


def _digests(command: Command) -> dict[str, Any]:
    """The files of a command line by their content, but for the dense weights."""
    from experiments.cli.dense_weights import weights_digest

    ratios = command.ws.ws_ratios
    contents = {"ws_ratios": ratios if isinstance(ratios, Path) else None}
    contents |= {"ws_rollouts": command.ws.ws_rollouts}
    contents |= {"dst_checkpoint": command.run.dst_checkpoint}
    digests: dict[str, Any] = {name: weights_digest(path) for name, path in contents.items()}
    if isinstance(ratios, Mapping):
        digests["ws_ratios"] = dict(ratios)
    for name in ("ws_policy", "ws_from_policy"):  # younger than many runs, whose names must stay
        if (given := getattr(command.ws, name)) is not None:
            digests[name] = weights_digest(policy_path(given))
    return digests


def make_learner(
    command: Command,
    experiment: Experiment,
    *,
    run: Path,
    teacher: nn.Module | None = None,
    facts: dict[str, Any] | None = None,
) -> WeightSparseLearner:
    """Build the learner of a command line, with its files in the folder `run`.

    The command line locks and claims the folder itself, by the settings' names.
    """
    from ws_learner.learner import WeightSparseLearner

    return WeightSparseLearner(
        experiment.model,
        experiment.data,
        loss=experiment.loss,
        metric=experiment.metric,
        recipe=recipe_for_command(command, experiment.sparse_recipe),
        teacher=teacher,
        run_dir=run,
        config=dataclasses.replace(
            command.ws, ws_location=command.ws.ws_location or experiment.location
        ),
        agent=command.ddpg,
        compute=device_for_command(command),
        seed=command.run.seed,
        workers=command.run.workers,
        cluster=command.cluster,
        facts=facts,
        outputs=command.run.outputs or experiment.outputs,
        claims=False,
    )


def _evaluate(command: Command) -> int:
    """Open a finished run's weights again and measure them."""
    if command.run.run_dir is None:
        raise UserError("--exec_mode eval: name the run with --run_dir runs/<one>")
    from experiments.cli.evaluate_run import evaluate_run
    from ws_learner.language import is_language_run

    run = RunDir(find_run(command.run.run_dir, folder=command.runs, name="run_dir"))
    if is_language_run(run):
        return evaluate_language_run(run)
    own = command.experiment if imports_of(command.experiment) is not None else None
    return evaluate_run(run, device_for_command(command), module=own)


if __name__ == "__main__":
    sys.exit(main())
