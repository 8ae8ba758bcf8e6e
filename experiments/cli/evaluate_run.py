"""`--exec_mode eval`: a finished run, opened again and measured from its saved bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import yaml

from experiments.cli.discovery import find_experiment
from experiments.cli.task_metrics import task_metric_lines
from experiments.experiment import Experiment
from ws_learner.compat import (
    LPOT_COPY,
    find_data_folder,
    load_conf_splits,
    read_lpot,
    with_data_folder,
)
from ws_learner.core import ComputeDevice, RunDir, load_into, load_state, say
from ws_learner.report import read_table
from ws_learner.training import evaluate

__all__ = ["evaluate_run", "load_experiment"]


def evaluate_run(run: RunDir, compute: ComputeDevice) -> int:
    """Recompute sparsity and test accuracy; return 0 if both are what the summary says, else 1.

    Raises:
        UserError: The folder holds no finished run, or its files do not fit together.
    """
    summary = run.read_summary()
    say(f"opening {run.model} again")
    experiment = load_experiment(run)
    compute.place_model(experiment.model)
    metric, test = experiment.metric, experiment.data.test
    accuracy = evaluate(experiment.model, test, metric, compute=compute)
    dense = summary["learner"] == "full-prec"
    recorded = summary["dense_accuracy" if dense else "sparse_accuracy"]
    task_metric_lines(experiment, experiment.model, compute)
    say(f"test accuracy {accuracy:.4f} (recorded {recorded:.4f}), {len(test)} images")
    agrees = abs(accuracy - recorded) < 5e-4
    if not dense:
        agrees = _same_zeros(run) and agrees
    say("agrees with the run's summary" if agrees else "DOES NOT AGREE with the run's summary")
    return 0 if agrees else 1


def load_experiment(run: RunDir) -> Experiment:
    """Build a finished run's experiment, with the weights that the run saved.

    Raises:
        UserError: The folder holds no finished run, or its files do not fit together.
    """
    run.read_summary()
    settings = yaml.safe_load(run.config.read_text())
    module = find_experiment(settings["experiment"])
    names = {item.name for item in dataclasses.fields(module.Options)}
    plain = {name: settings[name] for name in names if name in settings}
    lpot = read_lpot(run.path / LPOT_COPY) if (run.path / LPOT_COPY).exists() else None
    if lpot is not None and lpot.train is not None and settings.get("data_dir"):
        lpot = with_data_folder(lpot, Path(settings["data_dir"]))
    if lpot is not None and lpot.train is not None and lpot.train.loader is not None:
        plain["data_dir"] = find_data_folder(lpot.train.loader)
    experiment: Experiment = module.build(_options(module.Options, plain), seed=settings["seed"])
    if lpot is not None and lpot.train is not None:
        experiment = dataclasses.replace(experiment, data=load_conf_splits(lpot))
    load_into(experiment.model, run.model)
    return experiment


def _options(kind: type, plain: dict[str, object]) -> object:
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(plain)


def _same_zeros(run: RunDir) -> bool:
    table, state = read_table(run.ratios), load_state(run.model)
    wanted = (table["achieved"] * table["weights"]).round().astype("int64")
    counts = [int((state[name] == 0).sum()) for name in table["layer"]]
    total = int(table["weights"].sum())
    say(f"prune ratio {sum(counts) / total:.6f}: {sum(counts)} of {total} weights are zero")
    return counts == wanted.tolist()
