"""How a network is trained: optimizer, learning-rate schedule, length. Free of torch."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from ws_learner.core import FitsUnset, UserError, check_settings, complain, share_hint

__all__ = ["LrnSchedule", "OptimizerName", "Recipe", "learning_rate"]

LrnSchedule = Literal["step", "cosine", "one-cycle", "exponential", "linear"]
OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop"]


@dataclass(frozen=True, kw_only=True)
class Recipe(FitsUnset):
    """One training run. Shares are of all optimizer steps, in [0, 1].

    Attributes:
        nb_epochs: Passes over the training split; a fraction is allowed.
        batch_size: Examples per step.
        optimizer: Update rule.
        lrn_rate: Peak learning rate.
        momentum: Of sgd and rmsprop.
        nesterov: Nesterov momentum, sgd only.
        weight_decay: L2 penalty (decoupled under adamw) on weights, not on biases or norms.
        lrn_schedule: `step` multiplies by `lrn_decay` at each milestone; `cosine` falls to 0;
            `one-cycle` rises over `warmup` and then falls to 0 along a cosine;
            `exponential` multiplies by `lrn_decay` every `decay_every` epochs; `linear` falls
            to 0 along a line, as BERT is fine-tuned.
        milestones: Shares of the run at which `step` drops the rate.
        lrn_decay: Factor of one drop.
        decay_every: Epochs between the drops of `exponential`.
        warmup: Share of the run over which the rate rises linearly from 0.
        label_smoothing: Of the cross-entropy, in [0, 1).
        lrn_rate_min: Rate at which `cosine`, `one-cycle` and `linear` end, up to `lrn_rate`.
        clip_norm: Largest Euclidean norm of all gradients together; None clips nothing.
        mixup: Alpha of the Beta distribution of mixup (Zhang et al. 2018); 0 mixes nothing.
        progressive_sizes: Pairs (share of the run, scale), both in (0, 1) and rising: until that
            share, training images are scaled down by that factor, later they have their full
            size (progressive resizing, as in fastai's DAWNBench entry of 2018). For networks
            that take images of any size.
    """

    nb_epochs: float
    batch_size: int = 128
    optimizer: OptimizerName = "sgd"
    lrn_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    lrn_schedule: LrnSchedule = "cosine"
    milestones: tuple[float, ...] = ()
    lrn_decay: float = 0.1
    decay_every: float = 1.0
    warmup: float = 0.0
    label_smoothing: float = 0.0
    lrn_rate_min: float = 0.0
    clip_norm: float | None = None
    mixup: float = 0.0
    progressive_sizes: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        complain([*self._problems(), *self._wrong_momentum()])

    def _problems(self) -> Iterator[str]:
        positive = {"nb_epochs": self.nb_epochs, "batch_size": self.batch_size}
        positive["lrn_rate"] = self.lrn_rate
        for name, value in positive.items():
            if not (math.isfinite(value) and value > 0):
                yield f"`{name}` {value}: must be a number above 0"
        if not 0 <= self.warmup < 1:
            yield (
                f"`warmup` {self.warmup:g}: must be a share of the training in [0, 1)"
                f"{share_hint(self.warmup)}"
            )
        if not 0 <= self.label_smoothing < 1:
            yield (
                f"`label_smoothing` {self.label_smoothing}: must lie in [0, 1)"
                f"{share_hint(self.label_smoothing)}"
            )
        for name in ("momentum", "weight_decay", "mixup"):
            if not 0 <= getattr(self, name) < math.inf:
                yield f"`{name}` {getattr(self, name)}: must be 0 or above"
        if not 0 <= self.lrn_rate_min <= self.lrn_rate:
            yield f"`lrn_rate_min` {self.lrn_rate_min}: must be 0 to `lrn_rate` ({self.lrn_rate})"
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            yield f"`clip_norm` {self.clip_norm}: must be a number above 0"
        if not all(_rises(values) for values in zip(*self.progressive_sizes, strict=True)):
            yield (
                f"`progressive_sizes` {self.progressive_sizes}: shares and scales must lie "
                "between 0 and 1 and rise"
            )

    def _wrong_momentum(self) -> Iterator[str]:
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            yield "`nesterov` True: needs a `momentum` above 0"

    def identity(self) -> dict[str, Any]:
        """The fields, for a run's identity; one that came later only where it is not the default.

        So the identity of earlier runs stays as it was.
        """
        later = {"progressive_sizes": ()}
        return {k: v for k, v in asdict(self).items() if k not in later or v != later[k]}

    def finishing(self, *, length: float, rate: float) -> Recipe:
        """A shorter training at a lower rate that goes on with a trained network, without warmup.

        Args:
            length: Share of this training's length, above 0.
            rate: Share of its learning rate, above 0.
        """
        return replace(
            self,
            nb_epochs=self.nb_epochs * length,
            lrn_rate=self.lrn_rate * rate,
            lrn_rate_min=self.lrn_rate_min * rate,
            warmup=0.0,
            progressive_sizes=(),
        )

    def image_scale(self, step: int, *, total_steps: int) -> float:
        """Scale of the training images of optimizer step `step` in [0, total_steps)."""
        for share, scale in self.progressive_sizes:
            if step < share * total_steps:
                return scale
        return 1.0

    def steps_per_epoch(self, examples: int) -> int:
        """Optimizer steps of one pass over `examples`; a smaller last batch is left out."""
        steps = examples // self.batch_size
        if steps < 1:
            raise UserError(
                f"`batch_size` {self.batch_size}: larger than the training split "
                f"({examples} examples); choose at most {examples}"
            )
        return steps

    def total_steps(self, examples: int) -> int:
        """Optimizer steps of the whole run."""
        return max(1, round(self.nb_epochs * self.steps_per_epoch(examples)))


def _rises(values: Iterable[float]) -> bool:
    """Whether values rise strictly within (0, 1)."""
    return all(low < high for low, high in pairwise((0.0, *values, 1.0)))


def learning_rate(recipe: Recipe, step: int, *, total_steps: int) -> float:
    """Rate of optimizer step `step` in [0, total_steps): a pure function, so runs resume."""
    done = step / total_steps
    if done < recipe.warmup:
        return recipe.lrn_rate * (step + 1) / (recipe.warmup * total_steps + 1)
    if recipe.lrn_schedule == "step":
        return recipe.lrn_rate * recipe.lrn_decay ** bisect_right(recipe.milestones, done)
    if recipe.lrn_schedule == "exponential":
        drops = int(done * recipe.nb_epochs / recipe.decay_every)
        return recipe.lrn_rate * recipe.lrn_decay**drops
    progress = (done - recipe.warmup) / (1 - recipe.warmup)
    height = recipe.lrn_rate - recipe.lrn_rate_min
    fall = 0.5 * (1 + math.cos(math.pi * progress))
    if recipe.lrn_schedule == "linear":
        fall = 1 - progress
    return recipe.lrn_rate_min + height * fall
