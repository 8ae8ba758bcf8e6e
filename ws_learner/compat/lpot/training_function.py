"""Training function built from the `train` section of an LPOT YAML file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.compat.lpot.schema import CriterionSection, LpotConf, TrainSection
from ws_learner.compat.lpot.schema import Optimizer as OptimizerSettings
from ws_learner.core import UserError, call_model, map_tensors
from ws_learner.data import Batch, DataSplits, as_batch

__all__ = ["automatic_training", "build_loss", "build_lpot_optimizer", "load_conf_splits"]

_SEED = 9527  # LPOT's own


class Hooks(Protocol):
    """Interface that the training needs from a `Pruning`: config, data, and hooks."""

    @property
    def conf(self) -> LpotConf:
        """What the file says."""

    @property
    def train_dataloader(self) -> Any:
        """Yields (inputs, targets); None to read the data that the file names."""

    def on_train_begin(self) -> None:
        """Before everything."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch, counted from 0."""

    def on_step_begin(self, step: int) -> Any:
        """Before a batch."""

    def on_after_compute_loss(
        self, inputs: Any, student_output: Any, student_loss: Tensor
    ) -> Tensor:
        """Return the loss to minimise."""

    def on_before_optimizer_step(self) -> None:
        """After the backward pass."""

    def on_step_end(self) -> None:
        """After a batch."""

    def on_epoch_end(self) -> None:
        """After an epoch."""

    def on_train_end(self) -> None:
        """After everything."""


def automatic_training(prune: Hooks) -> tuple[Callable[[nn.Module], None], int | None]:
    """Build the training function of a `Pruning` without one.

    Returns:
        The function, and the batches of an epoch where they are known.

    The hooks are called in LPOT's order. Data come from `prune.train_dataloader`, which yields
    (inputs, targets), or from the file.

    Raises:
        UserError: The config describes no training, or there is no data.
    """
    train = prune.conf.train
    if train is None:
        raise UserError(
            "Pruning: nothing trains the network; assign prune.pruning_func, or describe the "
            "training under `pruning: train:` in the YAML file"
        )
    batches, count = _batches(prune.conf, train, prune)
    if count is not None and train.iteration is not None:
        count = min(count, train.iteration)

    def run(model: nn.Module) -> None:
        optimizer, loss = build_lpot_optimizer(model, train.optimizer), build_loss(train.criterion)
        device = next(model.parameters()).device
        prune.on_train_begin()
        for epoch in range(train.start_epoch, train.end_epoch):
            model.train()
            total = torch.zeros((), device=device)
            prune.on_epoch_begin(epoch)
            for step, (inputs, targets) in enumerate(islice(batches(epoch), train.iteration)):
                prune.on_step_begin(step)
                inputs = map_tensors(inputs, lambda x: x.to(device))
                outputs = call_model(model, inputs)
                value = prune.on_after_compute_loss(
                    inputs, outputs, loss(outputs, targets.to(device))
                )
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                prune.on_before_optimizer_step()
                optimizer.step()
                prune.on_step_end()
                total = total + value.detach().float()
            if not bool(torch.isfinite(total)):
                raise UserError(
                    f"the training loss is {float(total)} in epoch {epoch}; lower the file's "
                    f"learning_rate (now {train.optimizer.learning_rate})"
                )
            prune.on_epoch_end()
        prune.on_train_end()

    return run, count if count is not None else train.iteration


def _batches(
    conf: LpotConf, train: TrainSection, prune: Hooks
) -> tuple[Callable[[int], Iterator[Batch]], int | None]:
    """(epoch -> its batches, how many there are)."""
    if (loader := prune.train_dataloader) is not None:
        return lambda epoch: map(as_batch, loader), len(loader) if hasattr(
            loader, "__len__"
        ) else None
    if train.loader is None:
        raise UserError(
            "Pruning: no data; assign prune.train_dataloader, or add `dataloader:` under `train:`"
        )
    split, size = load_conf_splits(conf).train, train.loader.batch_size
    count = -(-len(split) // size)
    return lambda epoch: split.batches(size, seed=_SEED + epoch, augment=True), count


def build_lpot_optimizer(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """Build the optimizer; weight decay applies to all parameters, as in LPOT."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "SGD":
        return torch.optim.SGD(
            model.parameters(),
            lr=rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=decay,
        )
    kind = torch.optim.AdamW if settings.name == "AdamW" else torch.optim.Adam
    return kind(
        model.parameters(),
        lr=rate,
        betas=(settings.beta_1, settings.beta_2),
        eps=settings.epsilon,
        weight_decay=decay,
        amsgrad=settings.amsgrad,
    )


def build_loss(criterion: CriterionSection) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy to a scalar: without a reduction the examples' losses are averaged."""
    entropy = nn.CrossEntropyLoss(reduction=criterion.reduction)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = entropy(outputs, targets)
        return value.mean() if criterion.reduction == "none" else value

    return loss


def load_conf_splits(conf: LpotConf, **options: Any) -> DataSplits:
    """The data of the file's `dataloader`, split; see `lpot_data.load_splits`.

    Raises:
        UserError: The file names no data, or they cannot be read.
    """
    from ws_learner.compat.lpot.data import load_splits

    if conf.train is None or conf.train.loader is None:
        raise UserError(
            f"`config` {conf.path}: has no `dataloader:` under `train:`, so there is no data"
        )
    return load_splits(conf.train.loader, **options)
