"""Frozen layers in a pruning training: pruned once, since no training moves their weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ws_learner.config import METHODS, WeightSparseConfig
from ws_learner.core import say
from ws_learner.pruning import frozen_names, prune_once
from ws_learner.training.phase import TrainingPhase

__all__ = ["freeze_as", "prune_frozen", "train_rest"]


def prune_frozen(
    model: nn.Module,
    zeros: Mapping[str, int],
    *,
    config: WeightSparseConfig,
    patterns: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Prune the frozen tensors by magnitude, in place, and say so.

    A method that keeps the zeros there are finds them kept.

    Args:
        model: The network.
        zeros: Zero count of each prunable tensor, by parameter name.
        config: Pruning settings.
        patterns: Pattern of each pruned tensor, in place of the settings' pattern.

    Returns:
        The zero counts of the tensors that are trained.
    """
    frozen = frozen_names(model, zeros)
    rest = {name: count for name, count in zeros.items() if name not in frozen}
    once = {name: zeros[name] for name in frozen if zeros[name]}
    if METHODS[config.ws_method].keeps_zeros or not once:
        return rest
    prune_once(
        model,
        once,
        pattern=config.pattern_spelling if patterns is None else patterns,
        pool=config.ws_criterion_pool,
        scope=config.ws_scope,
        bounds=(config.ws_ratio_min, config.ws_ratio_max),
    )
    some = f"{len(once)} frozen layers" if rest else "all layers to prune are frozen:"
    say(
        f"{some} {'are ' if rest else ''}pruned once by magnitude, before any training "
        f"(first {next(iter(once))}); the training does not change them"
    )
    return rest


def train_rest(model: nn.Module, phase: TrainingPhase) -> tuple[nn.Module, float]:
    """Train what needs a gradient in a network whose pruned layers are all frozen, in place.

    Returns:
        The network, and the training time in seconds: 0 if nothing needs a gradient.
    """
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    if not trained:
        say("no parameter needs a gradient, so there is no training: `nb_epochs` is not used")
        phase.compute.place_model(model)
        return model, 0.0
    say(f"the training goes on with the {len(trained)} tensors that are not frozen")
    return model, phase.run(model)


def freeze_as(model: nn.Module, other: nn.Module) -> nn.Module:
    """Freeze what is frozen in `other`, a network of the same parameters; return `model`."""
    flags = {name: value.requires_grad for name, value in other.named_parameters()}
    for name, value in model.named_parameters():
        value.requires_grad_(flags.get(name, value.requires_grad))
    return model
