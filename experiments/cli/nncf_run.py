"""Runs an NNCF compression JSON: movement sparsity, perhaps distilled, quantised, cropped."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from experiments.experiment import Experiment
from ws_learner.compat import (
    NncfConf,
    build_movement_config,
    build_nncf_distillation_loss,
    build_quant_config,
    quantized_layers,
)
from ws_learner.config import ClusterConfig, Recipe, WeightSparseConfig
from ws_learner.core import (
    ComputeDevice,
    RunDir,
    load_into,
    load_state,
    save_model,
    say,
    write_json,
    write_text,
)
from ws_learner.deploy import crop_run, export_int8, load_cropped
from ws_learner.pruning import Sparsifier, ThresholdMovementConfig, layer_table
from ws_learner.report import MetricsLog, ratio_table, to_csv, totals
from ws_learner.training import (
    Callback,
    FakeQuantizer,
    PruningCallback,
    Stateful,
    Trainer,
    TrainingPhase,
    build_training_loss,
    calibration,
    evaluate,
    run_phase,
)

__all__ = ["COPY", "run_nncf"]

COPY = "nncf.json"
"""The file's copy in the run directory; `--config` takes it again."""
INT8 = "model_int8.onnx"


class _Ranges(Callback):
    """Initialise activation ranges before a restore, and keep them equal across ranks."""

    def __init__(self, quantizer: FakeQuantizer, samples: int) -> None:
        self._quantizer, self._samples = quantizer, samples

    def on_start(self, trainer: Trainer) -> None:
        """See `Callback`."""
        batches = trainer.split.batches(trainer.recipe.batch_size, seed=trainer.seed)
        chosen = calibration(batches, self._samples)
        self._quantizer.calibrate(trainer.compute.place(inputs) for inputs in chosen)

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """What the ranks have seen together."""
        self._quantizer.settle(trainer.process_group)


def run_nncf(
    experiment: Experiment,
    conf: NncfConf,
    run: RunDir,
    *,
    settings: WeightSparseConfig,
    recipe: Recipe,
    compute: ComputeDevice,
    seed: int,
    facts: Mapping[str, Any],
    cluster: ClusterConfig | None = None,
) -> None:
    """Train and sparsify; write weights, tables, summary, and requested extras.

    With a cluster the training runs in ranks on Ray.

    Raises:
        UserError: Scopes, structures or the training's length do not fit the network.
    """
    data, model = experiment.data, copy.deepcopy(experiment.model)
    write_text(run.path / COPY, conf.path.read_text() if conf.path else conf.model_dump_json())
    steps = recipe.steps_per_epoch(len(data.train))
    config, names = build_movement_config(
        conf, model, steps_per_epoch=steps, lrn_rate=recipe.lrn_rate
    )
    teacher = compute.place_model(copy.deepcopy(experiment.model))
    distilled = settings.enbl_dst or conf.distillation is not None
    criterion = build_nncf_distillation_loss(experiment.loss, teacher, conf.distillation)
    if conf.distillation is None:
        criterion = build_training_loss(
            experiment.loss, teacher=teacher, config=settings, student=model
        )
    phase = TrainingPhase(
        phase="sparse",
        data=data,
        criterion=criterion,
        metric=experiment.metric,
        recipe=recipe,
        compute=compute,
        seed=seed,
        log=MetricsLog(run.metrics),
        checkpoint=run.state / "sparse.pt",
    )
    train = partial(_train, model, config=config, names=names, conf=conf)
    quantizer, seconds = run_phase(train, phase, model=model, cluster=cluster)
    save_model(run.model, model.state_dict(), {"format": "pt"})

    def test(network: nn.Module) -> float:
        compute.place_model(network)
        return evaluate(network, data.test, experiment.metric, compute=compute)

    summary: dict[str, Any] = {"train_seconds": round(seconds, 1), "distilled": distilled}
    inputs, _ = next(data.test.batches(32))
    if quantizer is not None:
        summary |= {"quantized_accuracy": test(quantizer.model), "int8": INT8}
        quantizer.detach()
    load_into(model, run.model)
    table = _tables(experiment, names, run)
    summary |= table | {"dense_accuracy": test(experiment.model), "sparse_accuracy": test(model)}
    if config.rule is not None:
        summary |= crop_run(model, inputs, run.path, groups=config.groups)
    if quantizer is not None:
        if config.rule is not None:
            model = load_cropped(run.path / "cropped", experiment.model)
        _export(quantizer.moved_to(model.cpu()), inputs, run)
    summary |= {"seed": seed, "score_lr": config.score_lr}
    write_json(run.summary, summary | dict(facts))


def _train(
    model: nn.Module,
    phase: TrainingPhase,
    *,
    config: ThresholdMovementConfig,
    names: tuple[str, ...],
    conf: NncfConf,
) -> tuple[FakeQuantizer | None, float]:
    """Train `model` in place; return what quantises it, if anything, and the seconds it took."""
    total = phase.recipe.total_steps(len(phase.data.train))
    sparsifier = Sparsifier(model, config, layers=names, total_steps=total)
    metrics = phase.metrics()
    before: list[Callback] = [PruningCallback(sparsifier, metrics)]
    also: dict[str, Stateful] = {"sparsifier": sparsifier}
    quantizer = _quantizer(conf, model)
    if quantizer is not None and conf.quantization is not None:
        samples = conf.quantization.initializer.range.num_init_samples
        before.insert(0, _Ranges(quantizer, samples))
        also["quantizer"] = quantizer
    seconds = phase.run(model, before=before, also=also, metrics=metrics)
    sparsifier.finalize()
    return quantizer, seconds


def _quantizer(conf: NncfConf, model: nn.Module) -> FakeQuantizer | None:
    part = conf.quantization
    if part is None:
        return None
    return FakeQuantizer(model, quantized_layers(model, conf, part), build_quant_config(part))


def _export(quantizer: FakeQuantizer, inputs: Tensor, run: RunDir) -> None:
    export_int8(quantizer, (inputs,), run.path / INT8)
    quantizer.detach()
    say(f"quantised network: {run.path / INT8}")


def _tables(experiment: Experiment, names: tuple[str, ...], run: RunDir) -> dict[str, Any]:
    """Write the ratio table of the saved file; its totals for the summary."""
    layers = layer_table(experiment.model, next(experiment.data.train.batches(2))[0])
    state = load_state(run.model)
    found = [int((state[row.name] == 0).sum()) if row.name in names else 0 for row in layers]
    frame = ratio_table(layers, np.array(found, dtype=np.int64), state)
    write_text(run.ratios, to_csv(frame))
    inside = frame[frame["layer"].isin(names)]
    sums = totals(frame)
    return {
        "learner": "weight-sparse",
        "protocol": "given",
        "method": "movement",
        "pattern": "as the file says",
        "target_prune_ratio": sums["achieved_prune_ratio"],
        "achieved_prune_ratio": sums["achieved_prune_ratio"],
        "sparsified_layers_prune_ratio": totals(inside)["achieved_prune_ratio"],
        "dense_macs": sums["dense_macs"],
        "kept_macs": sums["kept_macs"],
        "rollouts": 0,
    }
