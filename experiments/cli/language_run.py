"""Runs of causal language models: the same flags and run directory, another way of pruning."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.cli.build import show_report
from experiments.cli.command import Command
from experiments.cli.find_own_file import find_run_experiment
from experiments.cli.language_flags import (
    LANGUAGE_DEFAULTS,
    LANGUAGE_FLAGS,
    LANGUAGE_SETTINGS,
    is_language_model,
)
from ws_learner.config import WeightSparseConfig, parse_pattern_spec
from ws_learner.core import (
    RunDir,
    UserError,
    complain,
    folder_name,
    identity_hash,
    keep_messages,
    library_versions,
    read_yaml_file,
    say,
    shown,
)
from ws_learner.report import track_run, tracking, write_label

if TYPE_CHECKING:
    from ws_learner.language import LanguageTask

__all__ = ["evaluate_language_run", "language_run"]


def language_run(command: Command, *, words: Sequence[str]) -> RunDir:
    """Prune a language model, or go on with it, or show the finished run again.

    Args:
        command: The command line.
        words: Its words, for the report.

    Raises:
        UserError: Flags that have no meaning here, or network and texts do not fit.
    """
    from ws_learner.language import LanguageLearner, check_language
    from ws_learner.training import progress_of

    _refuse(command)
    command = _adjusted(command)
    task: LanguageTask = command.experiment.language_task(command.options)
    check_language(task, command.ws)
    settings = _settings(command)
    identity = _identity(command, task, settings)
    stem = folder_name(f"{task.name}-{task.settings.solver}")
    run = RunDir(command.run.run_dir or command.runs / f"{stem}-{identity_hash(identity)}")
    say(f"run directory: {run.path}{' (finished)' if run.finished else ''}")
    with run.locked(named=command.run.run_dir is not None):
        run.claim(settings, identity, given=command.given)
        write_label(run.path, name=command.run.name, tags=command.run.tag)
        if not run.finished:
            facts = {
                "command": shlex.join(["./run_local.sh", *words]),
                "versions": library_versions(),
                "seed": command.run.seed,
            }
            with (
                tracking(run.path, command.run.track),
                keep_messages(run.path),
                progress_of(run),
            ):
                LanguageLearner(task, run=run, config=command.ws, facts=facts).fit()
        shutil.rmtree(run.state, ignore_errors=True)  # as large as the network
    show_report(run)
    track_run(run.path, command.run.track)  # now with its report
    return run


def _refuse(command: Command) -> None:
    """Refuse flags that would have no effect.

    Raises:
        UserError: There are some; all of them at once.
    """
    if command.cluster is not None:
        raise UserError(
            f"-n={command.cluster.workers}: a language model is pruned block by block in one "
            "process, each block on what the one before gives; use ./run_local.sh"
        )
    options = {item.name for item in dataclasses.fields(command.options)}
    known = {*LANGUAGE_FLAGS, *options}
    unknown = sorted(command.given - known)
    if command.run.learner != "weight-sparse":
        raise UserError(f"--learner {command.run.learner}: language models are not trained here")
    complain(
        f"--{name}: has no effect on a causal language model, which is pruned block by block "
        "without training; leave it out (docs/language_models.md lists the flags)"
        for name in unknown
    )


def _adjusted(command: Command) -> Command:
    """The command with the defaults of language models."""
    changes: dict[str, Any] = {}
    fixed = parse_pattern_spec(command.ws.pattern_spelling).fixed_ratio
    if "ws_prune_ratio" not in command.given and command.ws.ws_ratios is None:
        smaller = command.options.drop_blocks or command.options.drop_neurons
        usual = 0.0 if smaller else LANGUAGE_DEFAULTS["ws_prune_ratio"]
        changes["ws_prune_ratio"] = usual if fixed is None else fixed
    if "ws_prune_ratio_prtl" not in command.given:
        changes["ws_prune_ratio_prtl"] = LANGUAGE_DEFAULTS["ws_prune_ratio_prtl"]
    for name, value in changes.items():
        say(f"adjusted: --{name} {value}, the default of language models")
    own = {name: getattr(command.ws, name) for name in LANGUAGE_SETTINGS} | changes
    return dataclasses.replace(command, ws=WeightSparseConfig(**own))


def _settings(command: Command) -> dict[str, Any]:
    """Every setting that has an effect, under its flag's name."""
    options = {item.name for item in dataclasses.fields(command.options)}
    kept = {"experiment", "seed", *LANGUAGE_SETTINGS, *options}
    return {name: value for name, value in command.settings().items() if name in kept}


def _identity(command: Command, task: LanguageTask, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything that changes the result: network and texts by their content."""
    places = {"model", "text", "data_dir", "ws_ratios"}
    kept = {name: value for name, value in settings.items() if name not in places}
    ratios = command.ws.ws_ratios
    if ratios is not None:
        from ws_learner.core import ratios_from

        kept["ws_ratios"] = ratios_from(ratios, setting="ws_ratios")
    return kept | {
        "experiment": task.name,
        "network": task.network_digest,
        "windows": task.windows.digest,
    }


def evaluate_language_run(run: RunDir) -> int:
    """Count zeros and measure perplexity of a finished run's bytes; 0 if both are as recorded.

    Raises:
        UserError: The folder's settings or texts have changed, or files are damaged.
    """
    from experiments.cli.rebuild_experiment import build_options
    from ws_learner.language import measure_again

    summary = run.read_summary()
    say(f"opening {run.model} again")
    settings = read_yaml_file(run.config, where=str(run.config), remedy="it is damaged")
    name = settings.get("experiment") if isinstance(settings, dict) else None
    module = find_run_experiment(run, {"experiment": str(name)})
    if not is_language_model(module):
        raise UserError(f"{run.config}: names {shown(name)}, no language model; it is damaged")
    fields = {item.name for item in dataclasses.fields(module.Options)}
    plain = {key: value for key, value in settings.items() if key in fields}
    task: LanguageTask = module.language_task(build_options(module, plain, run))
    found, zeros = measure_again(run, task.windows.test)
    recorded = float(summary["sparse_metric"])
    wanted = round(float(summary["achieved_prune_ratio"]) * int(summary["dense_macs"]))
    say(f"test perplexity {found:.6g} (recorded {recorded:.6g})")
    say(f"{zeros:,} weights are zero (recorded {wanted:,})")
    agrees = abs(found - recorded) < 5e-4 * max(1.0, abs(recorded)) and zeros == wanted
    say("agrees with the run's summary" if agrees else "DOES NOT AGREE with the run's summary")
    return 0 if agrees else 1
