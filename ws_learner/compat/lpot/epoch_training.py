"""Training with the hooks of an LPOT file's pruners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ws_learner.compat.lpot.epoch_plan import EpochPlan
from ws_learner.compat.lpot.epoch_pruner import EpochPruner
from ws_learner.pruning import count_zeros
from ws_learner.training import Callback, MetricsCallback, Trainer, TrainingPhase

__all__ = ["train_epochs"]


@dataclass(kw_only=True)
class _Prune(Callback):
    """Calls the pruner where LPOT's training function calls its hooks."""

    pruner: EpochPruner
    metrics: MetricsCallback
    first_epoch: int
    total: int

    def on_start(self, trainer: Trainer) -> None:
        """Before anything is restored."""
        self.pruner.follow_weights()
        self.pruner.follow(trainer.optimizer)
        trainer.optimizer.register_step_pre_hook(self.pruner.step_begins)
        trainer.optimizer.register_step_post_hook(self.pruner.step_ends)
        self._begin(trainer)

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """The next batch begins."""
        if trainer.step < trainer.total_steps:
            self._begin(trainer)
        if self.metrics.logs_loss(trainer):
            masked = sum(int((~mask).sum()) for mask in self.pruner.masks.values())
            counted = sum(
                count_zeros(trainer.model.get_parameter(name)) for name in self.pruner.masks
            )
            shares = {"prune/planned": masked, "prune/ratio": counted}
            self.metrics.more = {name: n / self.total for name, n in shares.items()}

    def on_gradients(self, trainer: Trainer) -> None:
        """Edit the gradients before they are clipped."""
        self.pruner.mask_gradients()

    def _begin(self, trainer: Trainer) -> None:
        epoch, batch = divmod(trainer.step, trainer.steps_per_epoch)
        if batch == 0:
            self.pruner.epoch_begin(self.first_epoch + epoch)
        self.pruner.batch_begin(batch)


def train_epochs(
    model: nn.Module,
    phase: TrainingPhase,
    *,
    plans: Sequence[EpochPlan],
    first_epoch: int,
    total: int,
) -> tuple[EpochPruner, float]:
    """Train `model` in place; return what pruned it, and the seconds it took.

    Args:
        model: The network.
        phase: The training.
        plans: Which tensors are pruned, when and how far.
        first_epoch: Number of the first epoch, as the plans count them.
        total: Weights of which the metrics tell the pruned share.

    Raises:
        UserError: The training is too short for the plans.
    """
    steps = phase.recipe.steps_per_epoch(len(phase.data.train))
    pruner, metrics = EpochPruner(model, plans, batches=steps), phase.metrics()
    follow = _Prune(pruner=pruner, metrics=metrics, first_epoch=first_epoch, total=total)
    seconds = phase.run(model, before=[follow], also={"pruner": pruner}, metrics=metrics)
    pruner.finish()
    return pruner, seconds
