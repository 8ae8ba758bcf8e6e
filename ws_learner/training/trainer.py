"""The one training loop. It knows steps and batches; everything else is a callback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.config import Recipe, learning_rate
from ws_learner.core import ComputeDevice, ProcessGroup
from ws_learner.data import Batch, Split, read_rank_batches

__all__ = ["Callback", "Trainer", "TrainingLoss", "build_optimizer", "epoch_seed"]

TrainingLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(outputs, targets, inputs) -> scalar; the inputs let a teacher look at the same batch."""


_STEPS_BETWEEN_WAITS = 50


class Callback:
    """Behaviour added to the loop; every hook does nothing by default."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step, the optimizer is there; a resume happens here."""

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """After an optimizer step; `trainer.step` counts it already."""

    def on_end(self, trainer: Trainer) -> None:
        """After the run."""


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch's order and augmentation: a function of the run's seed alone."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; weight decay spares biases and norms (He et al. 2019, sec. 3.1)."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    spared = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.lrn_rate, momentum=recipe.momentum, nesterov=recipe.nesterov
        )
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=recipe.lrn_rate, momentum=recipe.momentum, alpha=0.9)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    # Fused also on CPUs: the other loops are slow at the square roots of pruned weights' zeros.
    return kind(groups, lr=recipe.lrn_rate, fused=True)


@dataclass(kw_only=True)
class Trainer:
    """Trains `model` in place on `split` by `recipe`.

    The order of the images, their augmentation and the learning rate are functions of the seed
    and the step alone, so a run resumed at any step goes on as if it had never stopped.

    Attributes:
        model: Trained in place.
        split: Training images.
        recipe: Optimizer, schedule and length.
        criterion: What is minimised.
        compute: Device, number format, memory layout.
        seed: Fixes order, augmentation and dropout.
        callbacks: Called in this order.
        optimizer_of: Makes the optimizer of model and recipe.
        process_group: The processes that train together, and which of them this is.
        step: Optimizer steps done.
        seconds: Wall time of those steps, over all attempts.
    """

    model: nn.Module
    split: Split
    recipe: Recipe
    criterion: TrainingLoss
    compute: ComputeDevice
    seed: int
    callbacks: Sequence[Callback] = ()
    optimizer_of: Callable[[nn.Module, Recipe], torch.optim.Optimizer] = build_optimizer
    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    step: int = 0
    seconds: float = 0.0
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.compute.place_model(self.model)
        self.optimizer = self.optimizer_of(self.model, self.recipe)
        self.steps_per_epoch = self.recipe.steps_per_epoch(len(self.split))
        self.total_steps = self.recipe.total_steps(len(self.split))
        self.process_group.check_batch(self.recipe.batch_size)
        self._network = self.process_group.parallel(self.model)

    @property
    def epoch(self) -> float:
        """Passes over the split done so far, with a fraction."""
        return self.step / self.steps_per_epoch

    def run(self) -> None:
        """Train to the end of the recipe."""
        self.process_group.seed(self.seed)
        for callback in self.callbacks:
            callback.on_start(self)
        while self.step < self.total_steps:
            self._run_epoch()
        for callback in self.callbacks:
            callback.on_end(self)

    def _run_epoch(self) -> None:
        begun = time.monotonic()
        for inputs, targets in self._epoch_batches():
            loss = self._run_step(inputs, targets)
            if self.step % _STEPS_BETWEEN_WAITS == 0 or self.step % self.steps_per_epoch == 0:
                self.compute.wait()  # so that the clock counts work done, not work handed over
            self.seconds, begun = self.seconds + time.monotonic() - begun, time.monotonic()
            for callback in self.callbacks:
                callback.on_step_end(self, loss)
            if self.step >= self.total_steps:
                break

    def _epoch_batches(self) -> Iterator[Batch]:
        epoch, skip = divmod(self.step, self.steps_per_epoch)
        return read_rank_batches(
            self.split,
            self.recipe.batch_size,
            process_group=self.process_group,
            seed=epoch_seed(self.seed, epoch),
            skip=skip,
            device=self.compute.device,
        )

    def _run_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.model.train()
        inputs = self.compute.place(inputs)
        targets = targets.to(inputs.device, non_blocking=True)
        rate = learning_rate(self.recipe, self.step, total_steps=self.total_steps)
        for group in self.optimizer.param_groups:
            if not group.get("own_rate"):  # such as movement scores
                group["lr"] = rate
        with self.compute.autocast():
            loss = self._loss(inputs, targets)
        if self.process_group.size > 1:  # parts may differ by a row
            loss = loss * self.process_group.loss_scale(len(targets), self.recipe.batch_size)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.step += 1
        return self.process_group.average_batchnorm_stats(self.model, loss.detach())

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Of the batch as it is, or mixed with itself in reverse order."""
        if not self.recipe.mixup:
            return self.criterion(self._network(inputs), targets, inputs)
        alpha = self.recipe.mixup
        share = float(np.random.default_rng([self.seed, self.step]).beta(alpha, alpha))
        mixed = inputs * share + inputs.flip(0) * (1 - share)
        outputs = self._network(mixed)
        own = self.criterion(outputs, targets, mixed)
        return share * own + (1 - share) * self.criterion(outputs, targets.flip(0), mixed)
