"""`--sweep FILE`: many settings tried with Ray Tune, the poor ones given up early (ASHA)."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.command import Command
from experiments.cli.flag_aliases import canonical_words
from experiments.cli.flags import parse
from experiments.cli.ray.sweep_checks import check_sweep
from experiments.cli.ray.sweep_plan import SCHEDULE, Plan
from experiments.cli.ray.sweep_trial import read_answer, run_rungs, trial_arguments
from experiments.cli.run_identity import resolved_settings
from ws_learner.config import ClusterConfig, identity_settings
from ws_learner.core import RunDir, UserError, folder_name, identity_hash, say, write_text
from ws_learner.report import write_label

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["run_sweep"]

RETRIES = 2
"""How often a trial is restarted after its process died."""
_FAILED = -1e30  # finite, because ASHA interpolates between scores
_MEASURED = ("select_accuracy", "select_metric")


def run_sweep(path: Path, words: Sequence[str], *, cluster: ClusterConfig, runs: Path) -> int:
    """Run or resume the sweep of file `path` around a command line; write and print its table.

    Every rung of a trial is a training of its own with the whole ramp, only shorter: half-way
    through one training, late pruning would look best (Li et al. 2020, ASHA, with
    restarted trainings).

    Raises:
        UserError: The file or the command line makes no sense, or every trial failed.
    """
    plan, command = check_sweep(path, words)
    own = {item.name for item in dataclasses.fields(command.options)}
    words = canonical_words(words, own=own)  # a trial's values come after these and override them
    settings = resolved_settings(command)
    identity = {"plan": plan.plain(), "settings": identity_settings(settings)}
    folder = (
        command.run.run_dir or runs / f"sweep-{folder_name(path.stem)}-{identity_hash(identity)}"
    )
    run = RunDir(folder.resolve())
    say(f"run directory: {run.path}")
    with run.locked():
        run.claim({"sweep": plan.plain()} | settings, identity)
        write_label(run.path, name=command.run.name, tags=command.run.tag)
        words = [*words, "--precision", settings["precision"]]  # on whatever machine a trial runs
        _tune(plan, command, words, cluster=cluster, folder=run.path)
        table = _table(plan, run.path)
        write_text(run.path / "sweep.csv", table.to_csv(index=False))
    print(table.to_markdown(index=False))
    say(f"table: {run.path / 'sweep.csv'}")
    if table["state"].eq("failed").all():
        raise UserError(
            f"--sweep {path}: all {len(table)} trials failed, the first with: "
            f"{table['reason'].iloc[0]}"
        )
    return 0


def _tune(
    plan: Plan, command: Command, words: list[str], *, cluster: ClusterConfig, folder: Path
) -> None:
    """Let Ray Tune run what is left of the trials."""
    from ws_learner.training import ray_session

    with ray_session(cluster):
        allocation = None
        words = _with_dense_weights(command, words, cluster=cluster, folder=folder)
        if set(plan.space) <= SCHEDULE:
            allocation = _allocate_once(plan, words, cluster=cluster, folder=folder)
        _fit(plan, words, cluster=cluster, folder=folder, allocation=allocation)


def _with_dense_weights(
    command: Command, words: list[str], *, cluster: ClusterConfig, folder: Path
) -> list[str]:
    """Train the dense network once, if there is none, rather than in every trial."""
    from experiments.run import build, dense_weights

    here = dataclasses.replace(command, cluster=cluster, runs=folder)
    weights = dense_weights(here, build(here))
    return words if weights is None else [*words, "--dense_checkpoint", str(weights.resolve())]


def _allocate_once(
    plan: Plan, words: list[str], *, cluster: ClusterConfig, folder: Path
) -> Path | None:
    from experiments.cli.dense_weights import load_weights
    from experiments.run import build, make_learner

    first = parse([*words, *trial_arguments({})])
    command = dataclasses.replace(first, cluster=cluster)
    experiment = build(command)
    if command.run.dense_checkpoint is not None:
        load_weights(experiment.model, command.run.dense_checkpoint)
    make_learner(command, experiment, run=folder / "search").allocate()
    return folder / "search" / "state" / "allocation.json"


def _fit(
    plan: Plan, words: list[str], *, cluster: ClusterConfig, folder: Path, allocation: Path | None
) -> None:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    trials = [{"number": number, "values": values} for number, values in enumerate(plan.trials())]
    shared = {
        "words": _absolute(words),
        "folder": str(folder),
        "budgets": plan.budgets(),
        "allocation": str(allocation) if allocation else None,
        "cwd": os.getcwd(),
    }
    resources = {"cpu": 1.0, "gpu": cluster.gpus_per_worker}
    trainable = tune.with_resources(tune.with_parameters(run_trial, shared=shared), resources)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    storage = folder / "tune"
    if tune.Tuner.can_restore(str(storage / "trials")):
        tuner = tune.Tuner.restore(
            str(storage / "trials"),
            trainable=trainable,
            resume_unfinished=True,
            restart_errored=True,
        )
    else:
        budgets = plan.budgets()
        tuner = tune.Tuner(
            trainable,
            param_space={"trial": tune.grid_search(trials)},
            tune_config=tune.TuneConfig(
                scheduler=ASHAScheduler(
                    time_attr="budget",
                    metric="score",
                    mode="max",
                    max_t=budgets[-1],
                    grace_period=1,
                    reduction_factor=plan.factor,
                ),
                max_concurrent_trials=cluster.workers,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(storage),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                verbose=0,
            ),
        )
    tuner.fit()


def run_trial(config: dict[str, Any], shared: dict[str, Any]) -> None:
    """What Ray Tune runs in a process of its own."""
    import torch
    from ray import tune

    torch.set_num_threads(1)
    os.chdir(shared["cwd"])
    trial = config["trial"]
    rungs = run_rungs(
        shared["words"],
        trial["values"],
        budgets=shared["budgets"],
        folder=Path(shared["folder"]) / f"trial{trial['number']:03}",
        allocation=Path(shared["allocation"]) if shared["allocation"] else None,
    )
    for result in rungs:
        tune.report({"score": _score(result), "budget": result["budget"]})
        if "failed" in result:
            return


def _score(result: Mapping[str, Any]) -> float:
    """What a trial's rung is ranked by, more being better."""
    if "failed" in result:
        return _FAILED
    return float(result.get("score", result.get("select_accuracy", _FAILED)))


def _absolute(words: Sequence[str]) -> list[str]:
    """The words with every path that exists made absolute: trials may run elsewhere."""
    return [
        str(Path(word).resolve()) if os.sep in word and Path(word).exists() else word
        for word in words
    ]


def _table(plan: Plan, folder: Path) -> pd.DataFrame:
    """One row per trial, best first: how far it came, what it scored there, and with what."""
    import pandas as pd

    rows, scores = [], []
    for number, values in enumerate(plan.trials()):
        files = sorted((folder / f"trial{number:03}").glob("rung*.json"))
        last = read_answer(files[-1]) if files else {"failed": "did not run"}
        failed = last.get("failed", "")
        scores.append(_score(last))
        state = "failed" if failed else "complete" if len(files) == plan.rungs else "stopped early"
        rows.append(
            {"trial": number}
            | values
            | {"rungs": len(files) - bool(failed and files), "state": state}
            | {k: last.get(k) for k in ("epochs", *_MEASURED, "prune_ratio", "seconds")}
            | {"reason": failed}
        )
    table = pd.DataFrame(rows).assign(score=scores)
    table = table.sort_values(
        ["rungs", "score", "trial"], ascending=[False, False, True], ignore_index=True
    )
    unused = [name for name in _MEASURED if table[name].isna().all()]
    return table.drop(columns=["score", *(unused if len(unused) == 1 else _MEASURED[1:])])
