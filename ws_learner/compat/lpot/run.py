"""Runs an LPOT / Neural Compressor 1.x YAML: all but the network can come from the file."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

from ws_learner.compat.lpot.epoch_plan import EpochPlan
from ws_learner.compat.lpot.epoch_training import train_epochs
from ws_learner.compat.lpot.plan import build_plans
from ws_learner.compat.lpot.reader import read_lpot
from ws_learner.compat.lpot.schema import LpotConf, TrainSection
from ws_learner.compat.lpot.settings import (
    build_lpot_recipe,
    build_lpot_training_loss,
    load_lpot_data,
    lpot_distils,
)
from ws_learner.compat.lpot.training_function import build_loss, build_lpot_optimizer
from ws_learner.config import ClusterConfig, Recipe, WeightSparseConfig
from ws_learner.core import (
    AnyPath,
    ComputeDevice,
    OutputKind,
    RunDir,
    UserError,
    choose_device,
    enter_phase,
    load_into,
    load_state,
    save_model,
    say,
    write_text,
)
from ws_learner.data import DataSplits, as_splits
from ws_learner.pruning import layer_table
from ws_learner.report import MetricsLog, ratio_table, to_csv, totals
from ws_learner.training import (
    Loss,
    Metric,
    Result,
    TrainingPhase,
    build_optimizer,
    build_run_identity,
    check_task,
    evaluate,
    metric_entries,
    owned_run,
    run_phase,
    top_k_accuracy,
)

__all__ = ["LPOT_COPY", "run_lpot"]

LPOT_COPY = "lpot.yaml"
"""The file's copy in the run directory; `--config` takes it again."""


def run_lpot(
    source: AnyPath | LpotConf,
    model: nn.Module,
    data: Any = None,
    *,
    loss: Loss | None = None,
    metric: Metric = top_k_accuracy,
    recipe: Recipe | None = None,
    teacher: nn.Module | None = None,
    config: WeightSparseConfig | None = None,
    run_dir: AnyPath | None = None,
    compute: ComputeDevice | None = None,
    seed: int = 0,
    workers: int | None = None,
    cluster: ClusterConfig | None = None,
    facts: Mapping[str, Any] | None = None,
    outputs: OutputKind | None = None,
    claims: bool = True,
) -> Result:
    """Train and prune as an LPOT / Neural Compressor 1.x YAML says.

    The run directory keeps weights, layer table, metrics and summary, so that the same arguments
    given again resume an interrupted run. Other settings need another directory, which is checked.

    Source: the pruning YAML of LPOT and https://github.com/intel/neural-compressor before 2.0.

    Args:
        source: The file, or what `read_lpot` made of it.
        model: The network, with the weights that training starts from; it is not changed.
        data: `DataSplits`, or data as `as_splits` takes them; by default those of the file's
            `dataloader`.
        loss: (outputs, targets) -> scalar; by default the file's criterion.
        metric: (outputs, targets) -> (B,) scores in [0, 1], or a `MetricSpec`.
        recipe: Length in epochs, batch, rate; by default the file's. A file without `train:`
            needs `data`, `loss` and `recipe`.
        teacher: For distillation; by default the network as given.
        config: Only `enbl_dst`, `loss_w_dst` and `tempr_dst` count: distillation that the file
            does not ask for.
        run_dir: Where the run lives; by default runs/<network>-lpot-<hash of the arguments>.
        compute: Device, number format, memory layout; by default this machine's.
        seed: Fixes everything random.
        workers: Processes that read the file's images; by default one per core.
        cluster: Train in ranks on Ray, with these workers.
        facts: More entries for the summary.
        outputs: What the outputs mean, for distillation; None takes what the data say, or infers
            it.
        claims: Lock the directory and check that it was made with these arguments; False leaves
            both to the caller, who then gives `run_dir`.

    Returns:
        The pruned network, the layer table and the summary.

    Raises:
        UserError: The file is refused, its names or patterns do not fit the network, the training
            is too short for its pruners, data, loss or recipe are missing, or the directory was
            made with other arguments.
    """
    conf = source if isinstance(source, LpotConf) else read_lpot(source)
    config, compute = config or WeightSparseConfig(), compute or choose_device()
    data = None if data is None else as_splits(data, seed=seed)
    recipe, loss, data = _parts(conf, recipe, loss, data, workers=workers)
    teacher = _teacher(conf, model, teacher, config=config)
    kind = check_task(
        model, data, loss=loss, metric=metric, outputs=outputs, compares=teacher is not None
    )
    first = 0 if conf.train is None else conf.train.start_epoch
    plans = build_plans(conf, model)
    _check_length(conf, plans, ends=first + recipe.nb_epochs)
    identity = partial(
        build_run_identity,
        model,
        data,
        loss=loss,
        metric=metric,
        recipe=recipe,
        compute=compute,
        seed=seed,
        teacher=teacher,
        lpot=_settings(conf, config),
        outputs=outputs or data.outputs,
    )
    stem = f"{type(model).__name__.lower()}-lpot"
    with owned_run(run_dir, stem, identity=identity, claims=claims) as run:
        return _run(
            conf,
            model,
            data,
            run=run,
            loss=loss,
            metric=metric,
            recipe=recipe,
            teacher=teacher,
            config=config,
            compute=compute,
            seed=seed,
            cluster=cluster,
            plans=plans,
            facts=facts or {},
            outputs=kind,
        )


def _settings(conf: LpotConf, config: WeightSparseConfig) -> dict[str, Any]:
    """What counts of the file and of the settings besides it, as JSON values."""
    pruners = [dataclasses.asdict(pruner) for pruner in conf.pruners]
    names = ("enbl_dst", "loss_w_dst", "tempr_dst")
    file = dataclasses.asdict(dataclasses.replace(conf, path=None)) | {"pruners": pruners}
    return file | {name: getattr(config, name) for name in names}


def _run(
    conf: LpotConf,
    model: nn.Module,
    data: DataSplits,
    *,
    run: RunDir,
    loss: Loss,
    metric: Metric,
    recipe: Recipe,
    teacher: nn.Module | None,
    config: WeightSparseConfig,
    compute: ComputeDevice,
    seed: int,
    cluster: ClusterConfig | None,
    plans: tuple[EpochPlan, ...],
    facts: Mapping[str, Any],
    outputs: OutputKind | None,
) -> Result:
    """Train, save, verify and report in the run's own directory."""
    train, first = conf.train, 0 if conf.train is None else conf.train.start_epoch
    write_text(run.path / LPOT_COPY, conf.path.read_text() if conf.path else "")
    named = [name for plan in plans for name in plan.names]
    layers = layer_table(model, next(data.train.batches(2))[0], named=named)
    sparse = copy.deepcopy(model)
    phase = TrainingPhase(
        phase="sparse",
        data=data,
        criterion=build_lpot_training_loss(
            conf,
            loss,
            teacher=teacher and compute.place_model(teacher),
            config=config,
            outputs=outputs,
            pad_id=data.pad_id,
        ),
        metric=metric,
        recipe=recipe,
        compute=compute,
        seed=seed,
        log=MetricsLog(run.metrics),
        checkpoint=run.state / "sparse.pt",
        optimizer_of=build_optimizer if train is None else _optimizer_of(train, recipe),
    )
    total = sum(row.weights for row in layers)
    work = partial(train_epochs, sparse, plans=plans, first_epoch=first, total=total)
    pruner, seconds = run_phase(work, phase, model=sparse, cluster=cluster)
    enter_phase("report")
    save_model(run.model, sparse.state_dict(), {"format": "pt"})
    planned = {id(sparse.get_parameter(n)): int((~m).sum()) for n, m in pruner.masks.items()}
    owners = [id(sparse.get_parameter(row.name)) for row in layers]  # a weight may have two names
    zeros = np.array([planned.get(owner, 0) for owner in owners], dtype=np.int64)
    frame = ratio_table(layers, zeros, load_state(run.model))
    write_text(run.ratios, to_csv(frame))

    def test(network: nn.Module) -> float:
        compute.place_model(network)
        return evaluate(network, data.test, metric, compute=compute, where="the test split")

    load_into(sparse, run.model)
    sums = totals(frame)
    summary = {
        "learner": "weight-sparse",
        "protocol": "given",
        "method": ", ".join(dict.fromkeys(p.prune_type for p in conf.pruners)),
        "pattern": ", ".join(dict.fromkeys(str(plan.pattern) for plan in plans)),
        "target_prune_ratio": float(zeros.sum()) / total,
        "achieved_prune_ratio": sums["achieved_prune_ratio"],
        **metric_entries(metric, dense=test(copy.deepcopy(model)), sparse=test(sparse)),
        "dense_macs": sums["dense_macs"],
        "kept_macs": sums["kept_macs"],
        "rollouts": 0,
        "distilled": teacher is not None,
        "train_seconds": round(seconds, 1),
        "seed": seed,
        "measured_on": data.measured_on,
    }
    summary |= dict(facts)
    run.finish(summary)
    say(f"the file's pruners made {int(zeros.sum())} zeros")
    return Result(model=sparse, ratios=frame, summary=summary)


def _parts(
    conf: LpotConf,
    recipe: Recipe | None,
    loss: Loss | None,
    data: DataSplits | None,
    *,
    workers: int | None,
) -> tuple[Recipe, Loss, DataSplits]:
    """What was given, completed from the file."""
    train = conf.train
    if train is None:
        needed = {"data": data, "loss": loss, "recipe": recipe}
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise UserError(
                f"`config` {conf.path}: has no `train:`; add it, or give {', '.join(missing)}"
            )
    elif train.loader is None and recipe is None and data is not None:
        raise UserError(
            f"`config` {conf.path}: has no `dataloader:` under `train:`, so the batch size is "
            "unknown; give recipe"
        )
    size = None if recipe is None else recipe.batch_size
    data = load_lpot_data(conf, data, batch_size=size, workers=workers)
    if loss is None:
        assert train is not None
        loss = build_loss(train.criterion)
    return recipe or build_lpot_recipe(conf, data), loss, data


def _teacher(
    conf: LpotConf, model: nn.Module, teacher: nn.Module | None, *, config: WeightSparseConfig
) -> nn.Module | None:
    """A copy of the teacher; None without distillation."""
    if lpot_distils(conf, config):
        return copy.deepcopy(teacher or model)
    if teacher is not None:
        raise UserError(
            "teacher: nothing distils; set enbl_dst in config, or KnowledgeDistillationLoss as "
            "the file's criterion"
        )
    return None


def _check_length(conf: LpotConf, plans: tuple[EpochPlan, ...], *, ends: float) -> None:
    for plan in plans:
        if plan.kind != "lock" and plan.end_epoch >= ends:
            raise UserError(
                f"`config` {conf.path}: {plan.names[0]} is pruned up to and in epoch "
                f"{plan.end_epoch}, but the last epoch trained is {ends - 1:g}; raise the "
                "training's end_epoch (it is exclusive) or lower the pruner's"
            )


def _optimizer_of(train: TrainSection, recipe: Recipe) -> Callable[[nn.Module, Recipe], Optimizer]:
    settings = dataclasses.replace(train.optimizer, learning_rate=recipe.lrn_rate)
    return lambda network, _: build_lpot_optimizer(network, settings)
