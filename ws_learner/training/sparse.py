"""Sparse training: a pruning method trains the network to a profile of zero counts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ws_learner.config import METHODS, Recipe, WeightSparseConfig, load_object
from ws_learner.core import OutputKind, UserError, warn
from ws_learner.pruning import (
    GradualConfig,
    MethodConfig,
    MovementConfig,
    PerLayerPatterns,
    Sparsifier,
    check_whole_units,
    found_zeros,
)
from ws_learner.training.callbacks import MetricsCallback
from ws_learner.training.distillation import DistillationLoss
from ws_learner.training.evaluation import Loss
from ws_learner.training.frozen_layers import prune_frozen, train_rest
from ws_learner.training.layer_distillation import LayerDistillation
from ws_learner.training.phase import TrainingPhase
from ws_learner.training.trainer import Callback, Trainer, TrainingLoss

__all__ = ["PruningCallback", "build_training_loss", "reinitialised", "train_sparse"]

_STEPS_OF_SCORES = 2000  # below, learned scores are worse, see experiments/results/movement


class PruningCallback(Callback):
    """Attaches a sparsifier to the run and reports the sparsity it reaches."""

    def __init__(self, sparsifier: Sparsifier, metrics: MetricsCallback) -> None:
        self._sparsifier, self._metrics = sparsifier, metrics

    def on_start(self, trainer: Trainer) -> None:
        """Attach hooks to the optimizer, before a checkpoint is restored."""
        self._sparsifier.attach(trainer.optimizer)

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Pass the current sparsity to the metrics callback if it is about to log."""
        if not self._metrics.logs_loss(trainer):
            return
        self._metrics.more = {
            "prune/planned": self._sparsifier.planned_ratio(),
            "prune/ratio": self._sparsifier.counted_ratio(),
            **self._sparsifier.readings(),
        }

    def on_gradients(self, trainer: Trainer) -> None:
        """Mask the gradients before they are clipped: only what is applied counts in the norm."""
        self._sparsifier.mask_gradients()

    def on_end(self, trainer: Trainer) -> None:
        """Check that all ranks pruned the same weights."""
        trainer.process_group.assert_equal_across_ranks("mask of", self._sparsifier.masks)


def build_method_config(
    config: WeightSparseConfig, *, steps_per_epoch: int, total_steps: int
) -> MethodConfig:
    """The method's own settings."""
    kind = load_object(METHODS[config.ws_method].config)
    made: MethodConfig = kind.from_settings(
        config, steps_per_epoch=steps_per_epoch, total_steps=total_steps
    )
    return made


def check_steps(
    config: WeightSparseConfig, recipe: Recipe, *, examples: int, warns: bool = True
) -> None:
    """Check before the search what training would reject after it; warn of short training.

    Args:
        config: Pruning settings.
        recipe: The training.
        examples: Size of the training split.
        warns: Print a line where the training is short for learned scores.

    Raises:
        UserError: The batch or the ramp does not fit a training split of this size.
    """
    total = recipe.total_steps(examples)
    per_epoch = recipe.steps_per_epoch(examples)
    method = build_method_config(config, steps_per_epoch=per_epoch, total_steps=total)
    if isinstance(method, GradualConfig) and config.ws_prune_ratio:
        method.schedule(total, target=config.ws_prune_ratio)
    learned = isinstance(method, MovementConfig) and method.steps == "optimizer"
    if warns and learned and total < _STEPS_OF_SCORES:
        warn(
            f"movement: {total} steps are few for learned scores; `movement_steps` weights, which "
            "has none, is more accurate in short training (docs/movement.md)"
        )


def build_training_loss(
    loss: Loss,
    *,
    teacher: nn.Module | None,
    config: WeightSparseConfig,
    student: nn.Module | None = None,
    outputs: OutputKind | None = None,
    pad_id: int | None = None,
) -> TrainingLoss:
    """Build the task loss with optional distillation terms.

    `dst_layers` needs the student. `outputs` says what the outputs mean, by default classes;
    padded sentences need `DataSplits.pad_id`.
    """
    if config.enbl_dst and teacher is not None:
        distilled = DistillationLoss(
            loss,
            teacher,
            weight=config.loss_w_dst,
            temperature=config.tempr_dst,
            outputs=outputs or "classes",
            pad_id=pad_id,
        )
        if not config.dst_layers or student is None:
            return distilled
        return LayerDistillation(
            distilled,
            student,
            teacher=teacher,
            layers=config.dst_layers,
            weight=config.loss_w_layers,
            pad_id=pad_id,
        )

    def criterion(outputs: Tensor, targets: Tensor, inputs: Tensor) -> Tensor:
        return loss(outputs, targets)

    return criterion


def reinitialised(model: nn.Module, *, seed: int) -> nn.Module:
    """Copy with new weights from every module's `reset_parameters`, seeded by `seed`."""
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in fresh.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return fresh


def train_sparse(
    model: nn.Module,
    zeros: Mapping[str, int],
    phase: TrainingPhase,
    *,
    config: WeightSparseConfig,
    keep_zeros: bool | Mapping[str, Tensor] | None = None,
    patterns: Mapping[str, str] | None = None,
) -> tuple[nn.Module, float]:
    """Train `model` in place until each tensor has its number of zeros in `zeros`.

    Frozen tensors are pruned once, before the training. If all of them are frozen, what else needs
    a gradient is trained; if nothing does, there is no training.

    Args:
        model: The network to train.
        zeros: Zero count of each prunable tensor, by parameter name.
        phase: The training phase.
        config: Pruning settings.
        keep_zeros: See `Sparsifier`.
        patterns: Spelling of each pruned tensor's pattern, by parameter name, in place of the
            settings' pattern; checked in whole units after the training.

    Returns:
        The same network with plain sparse weights, and the training time in seconds.

    Raises:
        UserError: The ramp does not fit the number of steps; or the method cannot train a pattern,
            or none is given for a tensor, or the scope is global, where layers have no counts.
        RuntimeError: Zeros are not in whole units of their layer's pattern.
    """
    total = phase.recipe.total_steps(len(phase.data.train))
    steps_per_epoch = phase.recipe.steps_per_epoch(len(phase.data.train))
    if METHODS[config.ws_method].keeps_zeros:
        zeros = _with_all_zeros(model, zeros)
    method = build_method_config(config, steps_per_epoch=steps_per_epoch, total_steps=total)
    if patterns is not None:
        method = with_layer_patterns(method, patterns, config=config)
    pruned = dict(zeros)
    zeros = prune_frozen(model, zeros, config=config, patterns=patterns)
    if not zeros:
        return train_rest(model, phase)
    sparsifier = Sparsifier(model, method, zeros=zeros, total_steps=total, keep_zeros=keep_zeros)
    metrics = phase.metrics()
    seconds = phase.run(
        model,
        before=[PruningCallback(sparsifier, metrics)],
        also={"sparsifier": sparsifier},
        metrics=metrics,
    )
    trained = sparsifier.finalize()
    if patterns is not None and not METHODS[config.ws_method].keeps_zeros:
        check_whole_units(trained, pruned, pattern=patterns)
    return trained, seconds


def with_layer_patterns(
    method: MethodConfig, patterns: Mapping[str, str], *, config: WeightSparseConfig
) -> MethodConfig:
    """The method's settings with a pattern for each layer; a method without patterns as it is.

    Raises:
        UserError: The scope is global, or one of the patterns is that of several layers.
    """
    if getattr(method, "scope", "local") == "global":
        raise UserError(
            "`ws_scope` global: layers with patterns of their own have zeros of their own; use "
            "local"
        )
    if not hasattr(method, "pattern"):
        return method
    changed: MethodConfig = replace(method, pattern=PerLayerPatterns.of(patterns))  # type: ignore[type-var]
    return changed


def _with_all_zeros(model: nn.Module, zeros: Mapping[str, int]) -> dict[str, int]:
    """With the zeros of tensors that are not in the layer table, which a lock keeps too."""
    known = dict(model.named_parameters(remove_duplicate=False))
    listed = {id(known[name]) for name in zeros}
    found = found_zeros(model)
    return dict(zeros) | {n: count for n, count in found.items() if id(known[n]) not in listed}
