"""Training in which an LPOT file's pruners are called where LPOT would call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ws_learner.compat.lpot.epoch_pruner import EpochPlan, EpochPruner
from ws_learner.training.callbacks import Metrics
from ws_learner.training.phase import Fit
from ws_learner.training.trainer import Callback, Trainer

__all__ = ["train_epochs"]


@dataclass(kw_only=True)
class _Prune(Callback):
    """Calls the pruner where LPOT's training function calls its hooks."""

    pruner: EpochPruner
    metrics: Metrics
    first_epoch: int
    total: int

    def on_start(self, trainer: Trainer) -> None:
        """Before anything is restored."""
        self.pruner.follow_weights()
        self.pruner.follow(trainer.optimizer)
        trainer.optimizer.register_step_pre_hook(lambda *_: self.pruner.before_step())
        trainer.optimizer.register_step_post_hook(lambda *_: self.pruner.after_step())
        self._begin(trainer)

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """The next batch begins."""
        if trainer.step < trainer.total_steps:
            self._begin(trainer)
        if trainer.step % 10 == 0 or trainer.step == trainer.total_steps:
            pruned = sum(int((~mask).sum()) for mask in self.pruner.masks.values())
            self.metrics.ratio = pruned / self.total

    def _begin(self, trainer: Trainer) -> None:
        epoch, batch = divmod(trainer.step, trainer.steps_per_epoch)
        if batch == 0:
            self.pruner.epoch_begin(self.first_epoch + epoch)
        self.pruner.batch_begin(batch)


def train_epochs(
    model: nn.Module, fit: Fit, *, plans: Sequence[EpochPlan], first_epoch: int, total: int
) -> tuple[EpochPruner, float]:
    """Train `model` in place; return what pruned it, and the seconds it took.

    Args:
        model: The network.
        fit: The training.
        plans: Which tensors are pruned, when and how far.
        first_epoch: Number of the first epoch, as the plans count them.
        total: Weights of which the metrics tell the pruned share.

    Raises:
        UserError: The training is too short for the plans.
    """
    steps = fit.recipe.steps_per_epoch(len(fit.data.train))
    pruner, metrics = EpochPruner(model, plans, batches=steps), fit.metrics()
    follow = _Prune(pruner=pruner, metrics=metrics, first_epoch=first_epoch, total=total)
    seconds = fit.run(model, before=[follow], also={"pruner": pruner}, metrics=metrics)
    pruner.finish()
    return pruner, seconds
