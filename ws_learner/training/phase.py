"""A training phase: a recipe run to its end with resume, metrics and progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from ws_learner.config import Recipe
from ws_learner.core import ComputeDevice, ProcessGroup, UserError, as_path, track
from ws_learner.data import DataSplits
from ws_learner.report import MetricsLog
from ws_learner.training.callbacks import (
    CheckpointCallback,
    MetricsCallback,
    ProgressCallback,
    Stateful,
)
from ws_learner.training.metric_spec import Metric
from ws_learner.training.not_finite import broken_weight, refuse_broken_inputs
from ws_learner.training.trainer import Callback, Trainer, TrainingLoss, build_optimizer

__all__ = ["TrainingPhase"]


_PHASES = {"dense": "dense", "sparse": "training"}  # of the command, see enter_phase
_EVERY = 50  # steps between two rows of metrics.csv
_ROWS = 20  # minimum number of rows of a short run


def _seconds() -> float:
    return float(os.environ.get("WS_CHECKPOINT_SECONDS", "60"))


@dataclass(frozen=True, kw_only=True)
class TrainingPhase:
    """One training phase of a run.

    Attributes:
        phase: Name in the metrics and on the progress bar, e.g. `dense`.
        data: The splits; trains on `train`, evaluates on `select`.
        criterion: Loss to minimise.
        metric: Score of each example.
        recipe: Optimizer, schedule, length.
        compute: Device, precision and memory layout.
        seed: Seed of order, augmentation and dropout.
        log: Metrics log.
        checkpoint: Checkpoint file for resuming after an interruption.
        optimizer_of: Function that builds the optimizer; by default the recipe's.
        process_group: The process group; rank 0 reports and writes.
        checkpoint_seconds: Time between checkpoints; by default WS_CHECKPOINT_SECONDS or 60.
    """

    phase: str
    data: DataSplits
    criterion: TrainingLoss
    metric: Metric
    recipe: Recipe
    compute: ComputeDevice
    seed: int
    log: MetricsLog
    checkpoint: Path
    optimizer_of: Callable[[nn.Module, Recipe], Optimizer] = build_optimizer
    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    checkpoint_seconds: float = field(default_factory=_seconds)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checkpoint", as_path(self.checkpoint, name="checkpoint"))

    @property
    def of_command(self) -> str | None:
        """The phase of the command that it is, see `enter_phase`; None for other trainings."""
        return _PHASES.get(self.phase)

    def run(
        self,
        model: nn.Module,
        *,
        before: Sequence[Callback] = (),
        also: Mapping[str, Stateful] | None = None,
        metrics: MetricsCallback | None = None,
    ) -> float:
        """Train `model` in place; return the time in seconds, including earlier attempts.

        Args:
            model: The network.
            before: Callbacks that run before checkpointing, such as a sparsifier's.
            also: Additional objects to checkpoint.
            metrics: Metrics callback; by default `metrics()`.

        Raises:
            UserError: The training has diverged, or an example of the train split is not finite.
        """
        metrics = metrics or self.metrics()
        total = self.recipe.total_steps(len(self.data.train))
        title = f"{self.phase} training"
        with track(title, total=total, phase=self.of_command, resumes=True) as progress:
            trainer = Trainer(
                model=model,
                split=self.data.train,
                recipe=self.recipe,
                criterion=self.criterion,
                compute=self.compute,
                seed=self.seed,
                optimizer_of=self.optimizer_of,
                callbacks=[
                    *before,
                    metrics,
                    CheckpointCallback(
                        self.checkpoint,
                        seconds=self.checkpoint_seconds,
                        also={"metrics": metrics, **(also or {})},
                    ),
                    *([ProgressCallback(progress)] if self.process_group.rank == 0 else []),
                ],
                process_group=self.process_group,
            )
            try:
                trainer.run()
            except UserError:
                if broken_weight(model):
                    refuse_broken_inputs(self.data.train, "train")
                raise
        return trainer.seconds

    def metrics(self) -> MetricsCallback:
        """Build the default metrics callback: loss, and the select metric after every epoch.

        The loss is logged every 50 steps, or more often to give a short run 20 rows.
        """
        total = self.recipe.total_steps(len(self.data.train))
        every = min(_EVERY, max(1, total // _ROWS))
        return MetricsCallback(
            self.log, phase=self.phase, metric=self.metric, every=every, split=self.data.select
        )
