"""Run an LPOT / Neural Compressor 1.x YAML: only the network comes from the experiment."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

from experiments.cli.flags import Command
from experiments.cli.lpot_training import train_epochs
from experiments.experiment import Experiment
from ws_learner.compat import (
    LimitedSplit,
    LpotConf,
    TrainSection,
    build_loss,
    build_lpot_optimizer,
    build_plans,
    find_data_folder,
    load_conf_splits,
)
from ws_learner.config import ClusterConfig, Recipe
from ws_learner.core import (
    ComputeDevice,
    RunDir,
    UserError,
    load_into,
    load_state,
    save_model,
    say,
    write_json,
    write_text,
)
from ws_learner.pruning import layer_table
from ws_learner.report import MetricsLog, ratio_table, to_csv, totals
from ws_learner.training import TrainingLoss as Loss
from ws_learner.training import TrainingPhase, build_optimizer, evaluate, run_phase

__all__ = ["COPY", "build_lpot", "recipe_of", "run_lpot", "with_root"]

COPY = "lpot.yaml"
"""The file's copy in the run directory; `--config` takes it again."""

_SETTLING = 2
"""Epochs after the last mask update, where the file does not say how long to train."""


def build_lpot(command: Command, conf: LpotConf) -> Experiment:
    """The experiment's network on the file's data.

    Without `train:` in the file the experiment's own data and loss.

    Raises:
        UserError: The file describes a training but no data.
    """
    options = command.options
    if conf.train is None:
        say(f"--config {conf.path}: has no `train:`; the experiment's own data and recipe are used")
        own: Experiment = command.experiment.build(options, seed=command.run.seed)
        return own
    if (folder := getattr(options, "data_dir", None)) is not None:
        conf = with_root(conf, folder)
    train = _train_of(conf)
    if train.loader is not None and train.loader.dataset == "ImageFolder":
        options = dataclasses.replace(options, data_dir=find_data_folder(train.loader))
    workers = getattr(options, "data_workers", None)
    data = load_conf_splits(conf, workers=workers)
    experiment: Experiment = command.experiment.build(options, seed=command.run.seed)
    data = dataclasses.replace(
        data, train=LimitedSplit(data.train, train.iteration, _size(conf, data))
    )
    return dataclasses.replace(experiment, data=data, loss=build_loss(train.criterion))


def with_root(conf: LpotConf, folder: Path) -> LpotConf:
    """The same with `--data_dir` in place of the data set's `root`."""
    train = _train_of(conf)
    if train.loader is None:
        return conf
    root = folder / "train" if (folder / "train").is_dir() else folder
    arguments = {**train.loader.arguments, "root": str(root)}
    loader = dataclasses.replace(train.loader, arguments=arguments)
    return dataclasses.replace(conf, train=dataclasses.replace(train, loader=loader))


def _train_of(conf: LpotConf) -> TrainSection:
    if conf.train is None:
        raise UserError(
            f"--config {conf.path}: has no `train:`, so nothing trains the network; add it, or "
            "use `from ws_learner import Pruning` with a training function of your own"
        )
    return conf.train


def _size(conf: LpotConf, data: Any) -> int:
    loader = _train_of(conf).loader
    return min(loader.batch_size if loader else 1, len(data.train))


def recipe_of(conf: LpotConf, data: Any, own: Recipe) -> Recipe:
    """Length, batch and rate of the file; the rate is constant, as LPOT's is.

    Without `train:` in the file `own`, as long as the pruners take and `_SETTLING` epochs more.
    """
    if conf.train is None:
        ends = [conf.end_epoch if p.end_epoch is None else p.end_epoch for p in conf.pruners]
        return dataclasses.replace(own, nb_epochs=max(ends) + 1 + _SETTLING)
    train = conf.train
    names: Mapping[str, Any] = {"SGD": "sgd", "Adam": "adam", "AdamW": "adamw"}
    return Recipe(
        nb_epochs=train.end_epoch - train.start_epoch,
        batch_size=_size(conf, data),
        optimizer=names[train.optimizer.name],
        lrn_rate=train.optimizer.learning_rate,
        momentum=train.optimizer.momentum,
        nesterov=train.optimizer.nesterov,
        weight_decay=train.optimizer.weight_decay,
        lrn_schedule="step",
    )


def _optimizer_of(train: TrainSection, recipe: Recipe) -> Callable[[nn.Module, Recipe], Optimizer]:
    settings = dataclasses.replace(train.optimizer, learning_rate=recipe.lrn_rate)
    return lambda network, _: build_lpot_optimizer(network, settings)


def run_lpot(
    experiment: Experiment,
    conf: LpotConf,
    run: RunDir,
    *,
    recipe: Recipe,
    compute: ComputeDevice,
    seed: int,
    facts: Mapping[str, Any],
    distil: Loss | None = None,
    cluster: ClusterConfig | None = None,
) -> None:
    """Train and prune; write the weights, the table and the summary.

    Args:
        experiment: Network, data, loss.
        conf: What the file says.
        recipe: Length, batch, rate.
        compute: Device and number format.
        seed: Fixes everything random.
        run: Where results go.
        facts: More entries for the summary.
        distil: (outputs, targets, inputs) -> scalar, instead of the experiment's loss.
        cluster: Trains in ranks on Ray.

    Raises:
        UserError: Names or patterns do not fit the network, or the training is too short.
    """
    train, data = conf.train, experiment.data
    first = 0 if train is None else train.start_epoch
    plans = build_plans(conf, experiment.model)
    ends = first + recipe.nb_epochs
    for plan in plans:
        if plan.kind != "lock" and plan.end_epoch >= ends:
            raise UserError(
                f"--config {conf.path}: {plan.names[0]} is pruned up to and in epoch "
                f"{plan.end_epoch}, but the last epoch trained is {ends - 1:g}; raise the "
                "training's end_epoch (it is exclusive) or lower the pruner's"
            )
    write_text(run.path / COPY, conf.path.read_text() if conf.path else "")
    layers = layer_table(experiment.model, next(data.train.batches(2))[0])
    model = copy.deepcopy(experiment.model)
    phase = TrainingPhase(
        phase="sparse",
        data=data,
        criterion=distil or (lambda outputs, targets, _: experiment.loss(outputs, targets)),
        metric=experiment.metric,
        recipe=recipe,
        compute=compute,
        seed=seed,
        log=MetricsLog(run.metrics),
        checkpoint=run.state / "sparse.pt",
        optimizer_of=build_optimizer if train is None else _optimizer_of(train, recipe),
    )
    total = sum(row.weights for row in layers)
    work = partial(train_epochs, model, plans=plans, first_epoch=first, total=total)
    pruner, seconds = run_phase(work, phase, model=model, cluster=cluster)
    save_model(run.model, model.state_dict(), {"format": "pt"})
    planned = {name: int((~mask).sum()) for name, mask in pruner.masks.items()}
    zeros = np.array([planned.get(row.name, 0) for row in layers], dtype=np.int64)
    frame = ratio_table(layers, zeros, load_state(run.model))
    write_text(run.ratios, to_csv(frame))

    def test(network: nn.Module) -> float:
        compute.place_model(network)
        return evaluate(network, data.test, experiment.metric, compute=compute)

    load_into(model, run.model)
    sums = totals(frame)
    summary = {
        "learner": "weight-sparse",
        "protocol": "given",
        "method": ", ".join(dict.fromkeys(p.prune_type for p in conf.pruners)),
        "pattern": ", ".join(dict.fromkeys(str(plan.pattern) for plan in plans)),
        "target_prune_ratio": float(zeros.sum()) / total,
        "achieved_prune_ratio": sums["achieved_prune_ratio"],
        "dense_accuracy": test(experiment.model),
        "sparse_accuracy": test(model),
        "dense_macs": sums["dense_macs"],
        "kept_macs": sums["kept_macs"],
        "rollouts": 0,
        "distilled": distil is not None,
        "train_seconds": round(seconds, 1),
        "seed": seed,
    }
    write_json(run.summary, summary | dict(facts))
    say(f"the file's pruners made {int(zeros.sum())} zeros")
