"""Build our settings from an NNCF file and a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.compat.nncf.schema import NncfConf, NncfDistillation, Quantization
from ws_learner.compat.nncf.scopes import select_layers
from ws_learner.core import Inputs, OutputKind, UserError, call_model, device_of
from ws_learner.pruning import (
    Pattern,
    ThresholdMovementConfig,
    UnitGroup,
    check_groups,
    find_groups,
    parse_pattern,
    pattern_conflict,
)
from ws_learner.training import DistillationLoss, QuantConfig, TrainingLoss

__all__ = ["build_movement_config", "build_nncf_distillation_loss", "build_quant_config"]

OutputLoss = Callable[[Tensor, Tensor], Tensor]


def build_movement_config(
    conf: NncfConf,
    model: nn.Module,
    *,
    steps_per_epoch: int,
    lrn_rate: float,
    groups: tuple[UnitGroup, ...] | None = None,
) -> tuple[ThresholdMovementConfig, tuple[str, ...]]:
    """The method's settings and the names of the weights.

    Scores learn at the rate of the weights, as NNCF's do, times `compression_lr_multiplier`.

    Args:
        conf: The file.
        model: The network.
        steps_per_epoch: Of the training; a number in the file must be the same.
        lrn_rate: Of the weights.
        groups: Heads and neurons; by default those that are found.

    Raises:
        UserError: Scopes, blocks, groups or the number of steps do not fit.
    """
    part, params = conf.movement, conf.movement.params
    if params.steps_per_epoch not in (None, steps_per_epoch):
        raise UserError(
            f"steps_per_epoch {params.steps_per_epoch}: an epoch has {steps_per_epoch} steps. "
            "Scheduling may be incorrect; mend it or leave it out, it is counted"
        )
    layers = select_layers(model, conf)
    patterns: dict[str, Pattern] = {name: parse_pattern(kind) for name, kind in layers.items()}
    units: tuple[UnitGroup, ...] = ()
    if params.enable_structured_masking:
        units = check_groups(model, find_groups(model) if groups is None else groups, layers)
        axes = {n: int(kind == "channelx1") for n, kind in layers.items() if "channel" in kind}
        conflicts = [text for group in units if (text := pattern_conflict(group, axes))]
        if conflicts:
            raise UserError("structured masking: " + "; ".join(conflicts))
    multiplier = part.compression_lr_multiplier
    multiplier = conf.compression_lr_multiplier if multiplier is None else multiplier
    config = ThresholdMovementConfig(
        warmup_start_epoch=params.warmup_start_epoch,
        warmup_end_epoch=params.warmup_end_epoch,
        importance_regularization_factor=params.importance_regularization_factor,
        power=params.power,
        init_importance_threshold=params.init_importance_threshold,
        final_importance_threshold=params.final_importance_threshold,
        steps_per_epoch=steps_per_epoch,
        patterns=patterns,
        score_lr=lrn_rate * (1.0 if multiplier is None else multiplier),
        rule="any" if units else None,
        groups=units,
    )
    return config, tuple(layers)


def build_nncf_distillation_loss(
    loss: OutputLoss,
    teacher: nn.Module,
    part: NncfDistillation | None,
    *,
    outputs: OutputKind | None = None,
    pad_id: int | None = None,
) -> TrainingLoss:
    """The task loss, and NNCF's distillation term if the file has one.

    softmax: scale x T^2 x KL(teacher / T || student / T), batch mean (here by its gradient, that
    of the cross-entropy); mse: scale x the mean squared difference of the logits.

    Args:
        loss: (outputs, targets) -> scalar.
        teacher: The dense network.
        part: The file's distillation, if it has one.
        outputs: What the outputs mean; by default classes.
        pad_id: Number that pads sentences, see `DataSplits.pad_id`.

    Raises:
        UserError: softmax, and the outputs are no classes.
    """
    if part is None:
        return lambda outputs, targets, inputs: loss(outputs, targets)
    if part.type == "softmax":
        if outputs not in (None, "classes", "tokens"):
            raise UserError(
                f"distillation: type softmax compares classes, but the outputs are {outputs}; "
                "use type mse"
            )
        weight = part.scale * part.temperature**2
        return DistillationLoss(
            loss,
            teacher,
            weight=weight,
            temperature=part.temperature,
            outputs=outputs or "classes",
            pad_id=pad_id,
        )

    def criterion(outputs: Tensor, targets: Tensor, inputs: Inputs) -> Tensor:
        with torch.no_grad():
            wanted = call_model(teacher.to(device_of(inputs)).eval(), inputs)
        return loss(outputs, targets) + part.scale * functional.mse_loss(outputs, wanted)

    return criterion


def build_quant_config(part: Quantization) -> QuantConfig:
    """The settings of fake quantisation.

    Raises:
        UserError: Weights are to be asymmetric.
    """
    if part.weights.mode == "asymmetric":
        raise UserError("quantization: weights.mode asymmetric is not supported; use symmetric")
    begin = part.initializer.range
    return QuantConfig(
        symmetric_activations=part.symmetric_activations,
        per_channel=part.weights.per_channel is not False,
        half_range=part.overflow_fix != "disable",
        first_only=part.overflow_fix == "first_layer_only",
        range_type=begin.type,
        percentiles=(begin.params.min_percentile, begin.params.max_percentile),
    )
