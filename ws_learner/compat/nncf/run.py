"""Runs an NNCF compression JSON: movement sparsity, perhaps distilled, quantised, cropped."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor, nn

from ws_learner.compat.nncf.plan import (
    build_movement_config,
    build_nncf_distillation_loss,
    build_quant_config,
)
from ws_learner.compat.nncf.reader import read_nncf
from ws_learner.compat.nncf.schema import NncfConf
from ws_learner.compat.nncf.scopes import quantized_layers
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
from ws_learner.pruning import Sparsifier, ThresholdMovementConfig, UnitGroup, layer_table
from ws_learner.report import MetricsLog, ratio_table, to_csv, totals
from ws_learner.training import (
    Callback,
    FakeQuantizer,
    Loss,
    Metric,
    PruningCallback,
    Result,
    Stateful,
    Trainer,
    TrainingPhase,
    build_run_identity,
    build_training_loss,
    calibration,
    check_task,
    evaluate,
    metric_entries,
    owned_run,
    run_phase,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NNCF_COPY", "Deployment", "run_nncf"]

NNCF_COPY = "nncf.json"
"""The file's copy in the run directory; `--config` takes it again."""
INT8 = "model_int8.onnx"


class Deployment(Protocol):
    """What a run needs of `ws_learner.deploy`, which is passed as it is."""

    @property
    def crop_run(self) -> CropRun:
        """(network, inputs, folder, groups=) -> entries of the summary; writes folder/cropped."""

    @property
    def load_cropped(self) -> LoadCropped:
        """(folder, dense network) -> the cropped network."""

    @property
    def export_int8(self) -> ExportInt8:
        """(quantizer, example inputs, path); writes an ONNX file."""


class CropRun(Protocol):
    """See `ws_learner.deploy.crop_run`."""

    def __call__(
        self,
        model: nn.Module,
        inputs: Tensor,
        folder: Path,
        *,
        groups: Sequence[UnitGroup] | None = None,
    ) -> dict[str, Any]:
        """Crop, save, measure."""


class LoadCropped(Protocol):
    """See `ws_learner.deploy.load_cropped`."""

    def __call__(self, folder: Path, model: nn.Module) -> nn.Module:
        """Rebuild."""


class ExportInt8(Protocol):
    """See `ws_learner.deploy.export_int8`."""

    def __call__(self, quantizer: FakeQuantizer, example: tuple[Tensor], path: Path) -> None:
        """Write."""


class _Ranges(Callback):
    """Begins the ranges of activations before anything is restored, and keeps ranks alike."""

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
    source: AnyPath | NncfConf,
    model: nn.Module,
    data: Any,
    *,
    loss: Loss,
    metric: Metric,
    recipe: Recipe,
    deploy: Deployment | None = None,
    config: WeightSparseConfig | None = None,
    run_dir: AnyPath | None = None,
    compute: ComputeDevice | None = None,
    seed: int = 0,
    cluster: ClusterConfig | None = None,
    facts: Mapping[str, Any] | None = None,
    outputs: OutputKind | None = None,
    claims: bool = True,
) -> Result:
    """Train and sparsify as an NNCF compression JSON with movement sparsity says.

    The run directory keeps weights, layer table, metrics and summary, and what the file asks for
    besides: the cropped network and the INT8 file. The same arguments given again resume an
    interrupted run. Other settings need another directory, which is checked.

    Source: `MovementSparsity.md` in https://github.com/openvinotoolkit/nncf at 4543e15e, the last
    commit with movement sparsity.

    Args:
        source: The file, or what `read_nncf` made of it.
        model: The fine-tuned network; it is not changed.
        data: `DataSplits`, or data as `as_splits` takes them.
        loss: (outputs, targets) -> scalar.
        metric: (outputs, targets) -> (B,) scores in [0, 1], or a `MetricSpec`.
        recipe: How the network is trained; epochs in the file are epochs of this training.
        deploy: `ws_learner.deploy`, for files with `enable_structured_masking` (the network is
            cropped) or `quantization` (an INT8 file is written); no other file needs it.
        config: Only its distillation counts (`enbl_dst`, `loss_w_dst`, `tempr_dst`, `dst_layers`,
            `loss_w_layers`), and only if the file has none.
        run_dir: Where the run lives; by default runs/<network>-nncf-<hash of the arguments>.
        compute: Device, number format, memory layout; by default this machine's.
        seed: Fixes everything random.
        cluster: Train in ranks on Ray, with these workers.
        facts: More entries for the summary.
        outputs: What the outputs mean, for distillation; None takes what the data say, or infers
            it.
        claims: Lock the directory and check that it was made with these arguments; False leaves
            both to the caller, who then gives `run_dir`.

    Returns:
        The network with zeros in place, not cropped; the layer table; the summary.

    Raises:
        UserError: The file is refused, scopes, structures or the training's length do not fit
            the network, `deploy` is missing, or the directory was made with other arguments.
    """
    conf = source if isinstance(source, NncfConf) else read_nncf(source)
    settings, compute = config or WeightSparseConfig(), compute or choose_device()
    _check_deployment(conf, deploy)
    data = as_splits(data, seed=seed)
    part = conf.distillation
    compares = settings.enbl_dst if part is None else part.type == "softmax"
    kind = check_task(model, data, loss=loss, metric=metric, outputs=outputs, compares=compares)
    names = ("enbl_dst", "loss_w_dst", "tempr_dst", "dst_layers", "loss_w_layers")
    own = {name: getattr(settings, name) for name in names}
    identity = partial(
        build_run_identity,
        model,
        data,
        loss=loss,
        metric=metric,
        recipe=recipe,
        compute=compute,
        seed=seed,
        nncf=conf.model_dump(mode="json") | own,
        outputs=outputs or data.outputs,
    )
    steps = recipe.steps_per_epoch(len(data.train))
    build_movement_config(conf, model, steps_per_epoch=steps, lrn_rate=recipe.lrn_rate)  # refuses
    stem = f"{type(model).__name__.lower()}-nncf"
    with owned_run(run_dir, stem, identity=identity, claims=claims) as run:
        return _run(
            conf,
            model,
            data,
            run=run,
            loss=loss,
            metric=metric,
            recipe=recipe,
            deploy=deploy,
            settings=settings,
            compute=compute,
            seed=seed,
            cluster=cluster,
            facts=facts or {},
            outputs=kind,
        )


def _run(
    conf: NncfConf,
    dense: nn.Module,
    data: DataSplits,
    *,
    run: RunDir,
    loss: Loss,
    metric: Metric,
    recipe: Recipe,
    deploy: Deployment | None,
    settings: WeightSparseConfig,
    compute: ComputeDevice,
    seed: int,
    cluster: ClusterConfig | None,
    facts: Mapping[str, Any],
    outputs: OutputKind | None,
) -> Result:
    """Train, save, verify, deploy and report in the run's own directory."""
    model = copy.deepcopy(dense)
    write_text(run.path / NNCF_COPY, conf.path.read_text() if conf.path else conf.model_dump_json())
    steps = recipe.steps_per_epoch(len(data.train))
    movement, names = build_movement_config(
        conf, model, steps_per_epoch=steps, lrn_rate=recipe.lrn_rate
    )
    teacher = compute.place_model(copy.deepcopy(dense))
    part = conf.distillation
    distilled = settings.enbl_dst or part is not None
    criterion = build_nncf_distillation_loss(
        loss, teacher, part, outputs=outputs, pad_id=data.pad_id
    )
    if part is None:
        criterion = build_training_loss(
            loss,
            teacher=teacher,
            config=settings,
            student=model,
            outputs=outputs,
            pad_id=data.pad_id,
        )
    phase = TrainingPhase(
        phase="sparse",
        data=data,
        criterion=criterion,
        metric=metric,
        recipe=recipe,
        compute=compute,
        seed=seed,
        log=MetricsLog(run.metrics),
        checkpoint=run.state / "sparse.pt",
    )
    train = partial(_train, model, config=movement, names=names, conf=conf)
    quantizer, seconds = run_phase(train, phase, model=model, cluster=cluster)
    enter_phase("report")
    save_model(run.model, model.state_dict(), {"format": "pt"})

    def test(network: nn.Module) -> float:
        compute.place_model(network)
        return evaluate(network, data.test, metric, compute=compute, where="the test split")

    summary: dict[str, Any] = {"train_seconds": round(seconds, 1), "distilled": distilled}
    inputs, _ = next(data.test.batches(32))
    if quantizer is not None:
        quantized = metric_entries(metric, quantized=test(quantizer.model))
        summary |= quantized | {"int8": INT8}
        quantizer.detach()
    load_into(model, run.model)
    table = _table(dense, data, names, run)
    summary |= _totals(table, names)
    summary |= metric_entries(metric, dense=test(copy.deepcopy(dense)), sparse=test(model))
    if movement.rule is not None and deploy is not None:
        summary |= deploy.crop_run(model, inputs, run.path, groups=movement.groups)
    if quantizer is not None and deploy is not None:
        slim = model
        if movement.rule is not None:
            slim = deploy.load_cropped(run.path / "cropped", dense)
        moved = quantizer.moved_to(slim.cpu())
        deploy.export_int8(moved, (inputs,), run.path / INT8)
        moved.detach()
        say(f"quantised network: {run.path / INT8}")
    summary |= {"seed": seed, "measured_on": data.measured_on}
    summary |= {"score_lr": movement.score_lr} | dict(facts)
    run.finish(summary)
    return Result(model=model, ratios=table, summary=summary)


def _check_deployment(conf: NncfConf, deploy: Deployment | None) -> None:
    asks = {
        "enable_structured_masking": conf.movement.params.enable_structured_masking,
        "quantization": conf.quantization is not None,
    }
    if deploy is None and any(asks.values()):
        raise UserError(
            f"`config` {conf.path}: {' and '.join(name for name, asked in asks.items() if asked)}: "
            "the finished network is cropped or written as INT8; give deploy=ws_learner.deploy"
        )


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


def _table(dense: nn.Module, data: DataSplits, names: tuple[str, ...], run: RunDir) -> pd.DataFrame:
    """Write the layer table of the saved file."""
    layers = layer_table(dense, next(data.train.batches(2))[0], named=names)
    state = load_state(run.model)
    found = [int((state[row.name] == 0).sum()) if row.name in names else 0 for row in layers]
    frame = ratio_table(layers, np.array(found, dtype=np.int64), state)
    write_text(run.ratios, to_csv(frame))
    return frame


def _totals(frame: pd.DataFrame, names: tuple[str, ...]) -> dict[str, Any]:
    """The table's totals for the summary."""
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
