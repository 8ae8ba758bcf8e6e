"""One sparse training of `pattern_recipes`, and the dense network it starts from."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from experiments.experiment import Experiment
    from ws_learner.config import Recipe
    from ws_learner.core import ComputeDevice

__all__ = ["BASE", "FACTORS", "RATIOS", "TrainingSpec", "make_dense", "make_sparse"]

RATIOS = {"4x1": 0.9, "2:4": 0.5, "2x1": 0.75}

BASE: dict[str, Any] = {
    "ws_prune_ratio_prtl": "uniform",
    "ws_criterion": "snip_momentum",
    "ws_iter_ratio_beg": 0.05,
    "ws_iter_ratio_end": 0.4,
    "enbl_dst": True,
}
"""Cubic ramp that is over when the rate, falling along a line, is still at six tenths."""

FACTORS: dict[str, dict[str, Any]] = {
    "layers": {"dst_layers": ("bert.encoder.layer.?",)},
    "soft": {"loss_w_dst": 16.0, "tempr_dst": 2.0},
    "global": {"ws_scope": "global"},
    "magnitude": {"ws_criterion": "magnitude"},
    "max": {"ws_criterion_pool": "max"},
    "fast": {},
}
"""What may be changed in the base; `fast` is three times the learning rate."""


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """One sparse training.

    Attributes:
        task: `trec`, `polarity` or `resnet20`.
        pattern: A key of `RATIOS`.
        recipe: `base`, or some of `FACTORS` joined by `+`.
        seed: Of the dense network and of the training.
        epochs: Length of the sparse training.
    """

    task: str
    pattern: str
    recipe: str
    seed: int
    epochs: float

    @property
    def name(self) -> str:
        """File name without its ending."""
        pattern = self.pattern.replace(":", "in")
        return f"{self.task}-{pattern}-{self.recipe}-{self.epochs:g}-{self.seed}"

    @property
    def factors(self) -> tuple[str, ...]:
        """What differs from the base."""
        return () if self.recipe == "base" else tuple(self.recipe.split("+"))


def make_dense(task: str, seed: int, state: Path, precision: Any) -> dict[str, Any]:
    """Fine-tune the dense network of a task into the folder `state`, unless it is there."""
    from ws_learner.core import save_model

    file = _dense_file(task, seed, state)
    if not file.exists():
        experiment = _experiment(task, seed)
        model = experiment.model
        _phase(model, experiment, experiment.dense_recipe, seed=seed, precision=precision)
        save_model(file, model.state_dict(), {"format": "pt"})
    return {"task": task, "seed": seed}


def make_sparse(trial: TrainingSpec, state: Path, precision: Any) -> dict[str, Any]:
    """Prune and train from the dense network in `state`; measure both."""
    import copy

    from experiments.cli.dense_weights import load_weights
    from ws_learner.config import WeightSparseConfig
    from ws_learner.core import choose_device

    experiment, chosen = _experiment(trial.task, trial.seed), choose_device(precision)
    load_weights(experiment.model, _dense_file(trial.task, trial.seed, state))
    settings = BASE | {"ws_pattern": trial.pattern, "ws_prune_ratio": RATIOS[trial.pattern]}
    for factor in trial.factors:
        settings |= FACTORS[factor]
    if trial.pattern == "2:4":  # every group is the same
        settings.pop("ws_scope", None)
    own = experiment.sparse_recipe
    rate = own.lrn_rate * (3 if "fast" in trial.factors else 1)
    recipe = dataclasses.replace(own, nb_epochs=trial.epochs, lrn_rate=rate)
    model = copy.deepcopy(experiment.model)
    seconds, zeros = _prune(
        model,
        experiment,
        recipe,
        config=WeightSparseConfig(**settings),
        seed=trial.seed,
        precision=precision,
    )
    dense, sparse = (_measure(net, experiment, chosen) for net in (experiment.model, model))
    paired = {part: sparse[part][0] - dense[part][0] for part in sparse}
    return dataclasses.asdict(trial) | {
        "zeros": zeros,
        "seconds": round(seconds, 1),
        "steps": recipe.total_steps(len(experiment.data.train)),
        "dense": {part: scores.mean(1).tolist() for part, scores in dense.items()},
        "sparse": {part: scores.mean(1).tolist() for part, scores in sparse.items()},
        "difference": {part: float(values.mean()) for part, values in paired.items()},
        "settings": settings | {"lrn_rate": rate},
    }


def _dense_file(task: str, seed: int, state: Path) -> Path:
    from benchmarks.cifar_task import WEIGHTS

    return WEIGHTS if task == "resnet20" else state / f"{task}-{seed}.safetensors"


def _experiment(task: str, seed: int) -> Experiment:
    from experiments import bert_at_polarity, bert_at_trec, resnet_at_cifar10

    if task == "trec":
        return bert_at_trec.build(bert_at_trec.Options(), seed=seed)
    if task == "polarity":
        return bert_at_polarity.build(bert_at_polarity.Options(), seed=seed)
    return resnet_at_cifar10.build(resnet_at_cifar10.Options(), seed=seed)


def _prune(
    model: nn.Module,
    experiment: Experiment,
    recipe: Recipe,
    *,
    config: Any,
    seed: int,
    precision: Any,
) -> tuple[float, float]:
    """Train `model` in place to the config's ratio; return seconds and the share of zeros."""
    from ws_learner.training import build_method_config

    encoder = "bert." in next(iter(dict(model.named_parameters())))
    weights = {
        name: weight
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and (name.startswith("bert.encoder.") or not encoder)
    }
    examples = len(experiment.data.train)
    per_epoch, total = recipe.steps_per_epoch(examples), recipe.total_steps(examples)
    method = build_method_config(config, steps_per_epoch=per_epoch, total_steps=total)
    wanted = {name: round(config.ws_prune_ratio * w.numel()) for name, w in weights.items()}
    zeros = method.feasible(model, wanted)
    seconds = _phase(
        model, experiment, recipe, seed=seed, precision=precision, prune=(zeros, config)
    )
    found = sum(int((w == 0).sum()) for w in weights.values())
    return seconds, found / sum(w.numel() for w in weights.values())


def _phase(
    model: nn.Module,
    experiment: Experiment,
    recipe: Recipe,
    *,
    seed: int,
    precision: Any,
    prune: tuple[dict[str, int], Any] | None = None,
) -> float:
    """Train `model` in place; return the seconds it took."""
    from ws_learner.config import WeightSparseConfig
    from ws_learner.core import choose_device
    from ws_learner.report import MetricsLog
    from ws_learner.training import TrainingPhase, build_training_loss, train_sparse

    config = prune[1] if prune else WeightSparseConfig()
    chosen = choose_device(precision)
    teacher = chosen.place_model(experiment.model) if prune else None
    with tempfile.TemporaryDirectory() as folder:
        phase = TrainingPhase(
            phase="sparse" if prune else "dense",
            data=experiment.data,
            criterion=build_training_loss(
                experiment.loss, teacher=teacher, config=config, student=model
            ),
            metric=experiment.metric,
            recipe=recipe,
            compute=chosen,
            seed=seed,
            log=MetricsLog(Path(folder) / "metrics.csv"),
            checkpoint=Path(folder) / "state.pt",
            checkpoint_seconds=1e9,
        )
        if prune is None:
            return phase.run(model)
        return train_sparse(model, prune[0], phase, config=config)[1]


def _measure(
    model: nn.Module, experiment: Experiment, compute: ComputeDevice
) -> dict[str, np.typing.NDArray[np.float64]]:
    """Per example right or not, and the log-loss: (2, N) of the test and of held-out examples."""
    import torch

    compute.place_model(model.eval())
    data, found = experiment.data, {}
    with torch.no_grad():
        for part, splits in (("held", (data.search, data.select)), ("test", (data.test,))):
            rows = []
            for inputs, targets in (batch for split in splits for batch in split.batches(250)):
                outputs = model(compute.place(inputs)).float().cpu()
                losses = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
                rows.append(torch.stack([experiment.metric(outputs, targets), losses]))
            found[part] = torch.cat(rows, 1).double().numpy()
    return found
