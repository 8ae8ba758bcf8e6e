"""A small network, a task, and every sparse-training method with settings for twenty steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from ws_learner.pruning import (
    GradientSensitivityConfig,
    GradualConfig,
    GroupLassoConfig,
    MdgfConfig,
    MethodConfig,
    MovementConfig,
    PatternLockConfig,
    SdgfConfig,
    Sparsifier,
    SrSteConfig,
    ThresholdMovementConfig,
)

LAYERS = ("0.weight", "2.weight")
STEPS = 20
RAMP = {"iter_ratio_beg": 0.1, "iter_ratio_end": 0.6, "mask_update_step": 2}


@dataclass(frozen=True)
class Case:
    """A method: its settings, and whether its terms are felt by the weights."""

    config: MethodConfig
    zeros: dict[str, int] | None = field(default_factory=lambda: dict.fromkeys(LAYERS, 32))

    def sparsifier(self, model: nn.Module, steps: int = STEPS) -> Sparsifier:
        """The sparsifier of `model`, which a lock finds half zero."""
        if isinstance(self.config, PatternLockConfig):
            half_zero(model)
        if self.zeros is None:
            return Sparsifier(model, self.config, layers=LAYERS, total_steps=steps)
        return Sparsifier(model, self.config, zeros=self.zeros, total_steps=steps)


def _threshold(**changes: object) -> ThresholdMovementConfig:
    settings: dict[str, object] = {
        **{"warmup_start_epoch": 1, "warmup_end_epoch": 3, "steps_per_epoch": 4},
        **{"importance_regularization_factor": 5.0, "init_importance_threshold": -0.1},
    }
    return ThresholdMovementConfig(**(settings | changes))  # type: ignore[arg-type]


CASES: dict[str, Case] = {
    "gradual": Case(GradualConfig(**RAMP)),  # type: ignore[arg-type]
    "gradient": Case(GradualConfig(criterion="gradient", **RAMP)),  # type: ignore[arg-type]
    "snip": Case(GradualConfig(criterion="snip", **RAMP)),  # type: ignore[arg-type]
    "snip_momentum": Case(GradualConfig(criterion="snip_momentum", **RAMP)),  # type: ignore[arg-type]
    "sensitivity": Case(GradientSensitivityConfig(**RAMP)),  # type: ignore[arg-type]
    "group_lasso": Case(GroupLassoConfig(alpha=0.05, **RAMP)),  # type: ignore[arg-type]
    "lasso and snip": Case(GroupLassoConfig(alpha=0.05, criterion="snip", **RAMP)),  # type: ignore[arg-type]
    "movement": Case(MovementConfig(score_lr=0.01, **RAMP)),  # type: ignore[arg-type]
    "relative movement": Case(MovementConfig(score_lr=0.02, steps="relative", **RAMP)),  # type: ignore[arg-type]
    "feedback": Case(MovementConfig(steps="weights", **RAMP)),  # type: ignore[arg-type]
    "threshold movement": Case(_threshold(), None),
    "pattern_lock": Case(PatternLockConfig()),
    "srste": Case(SrSteConfig(weight=0.05, dense=0.2)),
    "decoupled srste": Case(SrSteConfig(weight=0.5, term="decoupled", dense=0.2)),
    "mdgf": Case(MdgfConfig(dense=0.2)),
    "sdgf": Case(SdgfConfig(dense=0.2)),
}


def network(seed: int = 0) -> nn.Sequential:
    """8 -> 8 -> 8 without biases that are zero by chance."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))


def half_zero(model: nn.Module) -> None:
    """Set every second input of both layers to zero."""
    for name in LAYERS:
        model.get_parameter(name).data[:, ::2] = 0


def loss_of(model: nn.Module, step: int) -> Tensor:
    """Cross entropy of the batch of a step."""
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(16, 8, generator=generator)
    targets = (inputs @ torch.linspace(-1, 1, 64).reshape(8, 8).cos()).argmax(1)
    inputs = inputs.to(next(model.parameters()).dtype)
    return functional.cross_entropy(model(inputs), targets)


def train(
    model: nn.Module,
    optimizer: Optimizer,
    steps: Iterable[int] = range(STEPS),
    *,
    between: Callable[[int], object] = lambda step: None,
) -> None:
    """A plain loop; `between` is called after each step."""
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        between(step)
