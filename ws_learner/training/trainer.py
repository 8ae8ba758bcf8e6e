"""The training loop: steps and batches; everything else is a callback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.config import Recipe, learning_rate
from ws_learner.core import (
    ComputeDevice,
    Inputs,
    ProcessGroup,
    UserError,
    call_model,
    device_of,
)
from ws_learner.data import Batch, Split, read_rank_batches

__all__ = ["Callback", "Trainer", "TrainingLoss", "build_optimizer", "epoch_seed"]

TrainingLoss = Callable[[Tensor, Tensor, Any], Tensor]
"""(outputs, targets, inputs) -> scalar; a teacher uses the inputs of the batch."""


_STEPS_BETWEEN_WAITS = 50


class Callback:
    """Behaviour added to the loop; every hook does nothing by default."""

    def on_start(self, trainer: Trainer) -> None:
        """Called before the first step, with the optimizer built; resuming happens here."""

    def on_gradients(self, trainer: Trainer) -> None:
        """Called after the backward pass, before gradients are clipped, if they are."""

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Called after an optimizer step, which `trainer.step` already counts."""

    def on_end(self, trainer: Trainer) -> None:
        """Called after the last step."""


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch's order and augmentation, from the run's seed and the epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the recipe's optimizer; no weight decay on biases and norms (He et al. 2019, 3.1)."""
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
    # Fused also on CPUs: other loops are slow for square roots of the zeros of pruned weights.
    return kind(groups, lr=recipe.lrn_rate, fused=True)


@dataclass(kw_only=True)
class Trainer:
    """Trains `model` in place on `split` by `recipe`.

    The order of the images, their augmentation and the learning rate depend only on the seed and
    the step, so a run resumed at any step equals an uninterrupted one.

    Attributes:
        model: Trained in place.
        split: Training images.
        recipe: Optimizer, schedule and length.
        criterion: Loss to minimise.
        compute: Device, precision and memory layout.
        seed: Seed of order, augmentation and dropout.
        callbacks: Called in this order.
        optimizer_of: Function that builds the optimizer from model and recipe.
        process_group: The process group and this process's rank.
        step: Number of optimizer steps done.
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
        """Number of epochs done, with a fraction."""
        return self.step / self.steps_per_epoch

    def rehearse(self, inputs: Inputs, targets: Tensor) -> None:
        """Make one step on a batch, without callbacks; for a copy of the network."""
        self._run_step(inputs, targets)

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
                self.compute.wait()  # time completed work, not submitted work
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

    def _run_step(self, inputs: Inputs, targets: Tensor) -> Tensor:
        self.model.train()
        inputs = self.compute.place(self._scaled(inputs))
        targets = targets.to(device_of(inputs), non_blocking=True)
        rate = learning_rate(self.recipe, self.step, total_steps=self.total_steps)
        for group in self.optimizer.param_groups:
            if not group.get("own_rate"):  # such as movement scores
                group["lr"] = rate
        with self.compute.autocast():
            loss = self._loss(inputs, targets)
        if self.process_group.size > 1:  # ranks' parts may differ by a row
            loss = loss * self.process_group.loss_scale(len(targets), self.recipe.batch_size)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm is not None:
            for callback in self.callbacks:
                callback.on_gradients(self)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.step += 1
        return self.process_group.average_batchnorm_stats(self.model, loss.detach())

    def _scaled(self, images: Inputs) -> Inputs:
        """The batch at this step's size (`Recipe.progressive_sizes`)."""
        scale = self.recipe.image_scale(self.step, total_steps=self.total_steps)
        if scale == 1:
            return images
        if not isinstance(images, Tensor) or images.dim() != 4:
            found = getattr(images, "shape", None)
            raise UserError(
                f"`progressive_sizes` {self.recipe.progressive_sizes}: scales images (B, C, H, W), "
                + ("but a batch has " if found is None else f"but a batch has shape {tuple(found)}")
                + ("several inputs; leave it out" if found is None else "; leave it out")
            )
        height, width = (round(side * scale) for side in images.shape[2:])
        return nn.functional.interpolate(images, (height, width), mode="bilinear", antialias=True)

    def _loss(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Loss of the batch, or of the batch mixed with itself in reverse order (mixup)."""
        if not self.recipe.mixup:
            return self.criterion(call_model(self._network, inputs), targets, inputs)
        alpha = self.recipe.mixup
        share = float(np.random.default_rng([self.seed, self.step]).beta(alpha, alpha))
        if not isinstance(inputs, Tensor):
            raise UserError(
                f"`mixup` {alpha}: mixes one tensor, but a batch has several inputs; leave it out"
            )
        mixed = inputs * share + inputs.flip(0) * (1 - share)
        outputs = call_model(self._network, mixed)
        own = self.criterion(outputs, targets, mixed)
        return share * own + (1 - share) * self.criterion(outputs, targets.flip(0), mixed)
