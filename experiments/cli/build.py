"""Shared parts of every run: device and precision, recipe, experiment, facts, report."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.cli.command import Command
from experiments.cli.own_file import build_experiment
from ws_learner.config import PROTOCOLS, unused_settings
from ws_learner.core import RunDir, UserError, is_quiet, plain_lines, quiet, reading, say, warn

if TYPE_CHECKING:
    from experiments.experiment import Experiment
    from ws_learner.config import Recipe
    from ws_learner.core import ComputeDevice

__all__ = [
    "OF_RECIPE",
    "build",
    "check_outputs",
    "device_for_command",
    "recipe_for_command",
    "run_facts",
    "say_adjusted",
    "show_report",
]


def device_for_command(command: Command) -> ComputeDevice:
    """Device and number format of a command.

    Raises:
        UserError: A GPU is here that Ray's workers would not see.
    """
    from ws_learner.core import choose_device

    chosen = choose_device(command.run.precision)
    if chosen.device == "cuda" and command.cluster and not command.cluster.gpus_per_worker:
        raise UserError(
            "--gpus_per_worker 0: this machine has a GPU, which workers would not see; give them "
            "a share, such as --gpus_per_worker 0.5, or hide it with CUDA_VISIBLE_DEVICES="
        )
    return chosen


OF_RECIPE = (
    *("nb_epochs", "batch_size", "optimizer", "lrn_rate", "weight_decay", "momentum"),
    *("lrn_schedule", "lrn_rate_min", "clip_norm", "label_smoothing", "mixup"),
)


def recipe_for_command(command: Command, recipe: Recipe) -> Recipe:
    """The recipe with what the command line changes.

    Raises:
        UserError: The warm-up is as long as the training.
    """
    run = command.run
    changes = {name: getattr(run, name) for name in OF_RECIPE}
    changed = dataclasses.replace(recipe, **{k: v for k, v in changes.items() if v is not None})
    if run.warmup_epochs is None:
        return changed
    if not 0 <= run.warmup_epochs < changed.nb_epochs:
        raise UserError(
            f"--warmup_epochs {run.warmup_epochs:g}: must be from 0 to below the "
            f"{changed.nb_epochs:g} epochs of --nb_epochs"
        )
    return dataclasses.replace(changed, warmup=run.warmup_epochs / changed.nb_epochs)


def say_adjusted(command: Command) -> None:
    """Report settings that were adjusted to the user's, and user settings without effect."""
    for line in command.adjusted:
        say(f"adjusted: {line}")
    with quiet():
        for line in command.fitted:
            say(f"adjusted: {line}")
    if command.run.learner == "weight-sparse":
        for line in unused_settings(command.ws, command.given):
            warn(f"unused: {line}")


def build(command: Command) -> Experiment:
    """The experiment that a command line names.

    Raises:
        UserError: Flags do not go with it, or not with the config file.
    """
    from torch import nn

    if command.nncf is not None:
        from experiments.cli.nncf_flags import check_nncf_flags

        check_nncf_flags(
            command.nncf,
            ws=command.ws,
            agent=command.ddpg,
            teacher=command.run.dst_checkpoint,
            given=command.given,
        )

    experiment = build_experiment(command.experiment, command.options, seed=command.run.seed)
    smoothing = command.run.label_smoothing
    if smoothing is None:
        return experiment
    if not isinstance(experiment.loss, nn.CrossEntropyLoss):
        raise UserError(f"--label_smoothing {smoothing}: {experiment.name} has a loss of its own")
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    return dataclasses.replace(experiment, loss=loss)


def check_outputs(command: Command, experiment: Experiment, *, searches: bool = True) -> None:
    """Refuse flags that compare outputs which, the experiment says, cannot be compared.

    Args:
        command: What was asked for.
        experiment: Says what its outputs are.
        searches: Whether profiles may be searched for.

    Raises:
        UserError: Distillation, or a search by divergence, that this experiment does not know.
    """
    ws, name = command.ws, experiment.name
    if command.run.outputs or experiment.outputs or experiment.data.outputs:
        return
    if ws.enbl_dst and not experiment.distils:
        raise UserError(
            f"--enbl_dst: the outputs of {name} are no distribution over classes; leave it out, "
            "or say what they are with --outputs"
        )
    searched = searches and PROTOCOLS[ws.ws_prune_ratio_prtl].propose is not None
    if searched and ws.ws_reward_signal == "kl" and not experiment.searches:
        raise UserError(
            f"--ws_reward_signal kl: the outputs of {name} are no distribution over classes; "
            "give --ws_reward_signal accuracy, or --ws_prune_ratio_prtl uniform, or say what they "
            "are with --outputs"
        )


def run_facts(command: Command, experiment: Experiment, words: Sequence[str]) -> dict[str, Any]:
    """Provenance entries of the summary; `words` is the command line."""
    from ws_learner.core import describe_machine, library_versions

    script = ["./run_local.sh"]
    if command.cluster:
        script = ["./run_distributed.sh", f"-n={command.cluster.workers}"]
    return {
        "experiment": experiment.name,
        "command": shlex.join([*script, *words]),
        "hardware": describe_machine(device_for_command(command)),
        "versions": library_versions(),
    }


def show_report(run: RunDir, *, final: bool = True) -> None:
    """Write report and figures from the files of the run, and show the table.

    Args:
        run: The finished run.
        final: The command ends with it; a quiet command then prints its headline only.
    """
    from ws_learner.report import (
        draw_all,
        headline,
        print_summary,
        read_table,
        write_html,
        write_report,
    )

    summary = run.read_summary()
    with reading(run.path, "take its files from a copy, or choose another folder"):
        if not (run.path / "report.md").exists():
            draw_all(run.path)
            write_report(run.path)
        if not (run.path / "report.html").exists():
            write_html(run.path, run.path / "report.html")
        if not is_quiet():
            print_summary(summary, read_table(run.ratios) if run.ratios.exists() else None)
        elif final:
            print(plain_lines(headline(summary).replace("*", "")))
    say(f"report: {run.path / 'report.md'} and report.html, a page to send")
