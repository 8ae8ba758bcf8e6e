"""Run lifecycle: locate, lock, train, report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from experiments.cli.build import device_for_command, show_report
from experiments.cli.command import Command
from experiments.cli.run_identity import default_settings, locate_run, resolved_settings
from ws_learner.core import RunDir, keep_messages
from ws_learner.report import track_run, tracking, write_label

if TYPE_CHECKING:
    from experiments.experiment import Experiment

__all__ = ["run_or_reuse"]


def run_or_reuse(
    command: Command,
    experiment: Experiment,
    identity: dict[str, Any],
    work: Callable[[RunDir], object],
    *,
    kind: str,
    final: bool = True,
) -> RunDir:
    """Do `work` in the run's folder unless it is finished; measure, report.

    Args:
        command: The command line.
        experiment: What is trained.
        identity: What makes this run another than its neighbours, see `identity_of`.
        work: Trains; given the folder, which it leaves finished, or to be gone on with.
        kind: Second part of the folder's name, unless --run_dir names it.
        final: The command ends with this run. If it does not, and another process works on the
            run, as two commands that need one dense network do, it is waited for.
    """
    from experiments.cli.task_metrics import add_measures
    from ws_learner.training import progress_of

    run, identity = locate_run(command, f"{experiment.name}-{kind}", identity)
    with run.locked(waits=not final, named=command.run.run_dir is not None):
        run.claim(resolved_settings(command), identity, given=command.given)
        write_label(run.path, name=command.run.name, tags=command.run.tag)
        with tracking(run.path, command.run.track):
            if not run.finished:
                run.record_defaults(default_settings(command))
                with keep_messages(run.path), progress_of(run):
                    work(run)
    add_measures(run, experiment, device_for_command(command))
    show_report(run, final=final)
    track_run(run.path, command.run.track)  # now with its report
    return run
