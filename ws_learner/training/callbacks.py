"""Training callbacks: checkpoints, metrics, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ws_learner.core import (
    STATE_REMEDY,
    Progress,
    UserError,
    load_state_file,
    reading,
    save_state_file,
    say,
)
from ws_learner.data import Split
from ws_learner.report import MetricsLog
from ws_learner.training.evaluation import evaluate
from ws_learner.training.metric_spec import Metric, as_metric
from ws_learner.training.trainer import Callback, Trainer

__all__ = ["CheckpointCallback", "MetricsCallback", "ProgressCallback", "Stateful"]


class Stateful(Protocol):
    """An object with state to checkpoint, such as a sparsifier."""

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain numbers."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""


_STEPS_BETWEEN_LOSSES = 10
_STEPS_BETWEEN_DECISIONS = 10  # steps between rank 0's decisions whether to save


class CheckpointCallback(Callback):
    """Saves the training state at intervals and resumes from it at the start.

    The time of a checkpoint does not affect the result: a resumed run equals an uninterrupted one,
    step for step.
    """

    def __init__(
        self, path: Path, *, seconds: float = 60.0, also: Mapping[str, Stateful] | None = None
    ) -> None:
        """Save to `path` every `seconds`."""
        self._path, self._seconds = path, seconds
        self._also = dict(also or {})
        self._last = time.monotonic()

    def on_start(self, trainer: Trainer) -> None:
        """Resume from the checkpoint, if there is one."""
        if not self._path.exists():
            return
        state = load_state_file(self._path)
        with reading(self._path, STATE_REMEDY):
            self._restore(trainer, state)

    def _restore(self, trainer: Trainer, state: Mapping[str, Any]) -> None:
        trainer.model.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.step, trainer.seconds = state["step"], state["seconds"]
        if trainer.process_group.rank == 0 and trainer.step < trainer.total_steps:
            say(f"resuming from step {trainer.step}")
        for name, part in self._also.items():
            part.load_state_dict(state[name])
        if trainer.process_group.rank < len(state["rng"]):  # a new rank keeps its seed
            _set_rng(state["rng"][trainer.process_group.rank])

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Save if the interval has passed."""
        process_group = trainer.process_group
        if process_group.size > 1 and trainer.step % _STEPS_BETWEEN_DECISIONS:
            return
        if process_group.broadcast_decision(time.monotonic() - self._last >= self._seconds):
            self.save(trainer)

    def on_end(self, trainer: Trainer) -> None:
        """Save the finished training, so that later stages can be repeated without it."""
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the state that the remaining training depends on."""
        parts = {
            "model": trainer.model.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
        } | {name: part.state_dict() for name, part in self._also.items()}
        trainer.process_group.assert_equal_across_ranks("state of", parts)
        rng = trainer.process_group.gather(_get_rng())
        if trainer.process_group.rank == 0:
            counts = {"step": trainer.step, "seconds": trainer.seconds, "rng": rng}
            save_state_file(self._path, parts | counts)
        self._last = time.monotonic()


def _get_rng() -> dict[str, Tensor]:
    """States of PyTorch's generators on the CPU and on the current GPU, if any."""
    gpu = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state()} | gpu


def _set_rng(state: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


class MetricsCallback(Callback):
    """Logs the mean loss every `every` steps and at epoch ends, where it also logs the metric.

    It runs before the checkpoint callback and is part of the checkpoint, so a resumed run logs the
    same rows.
    """

    def __init__(
        self,
        log: MetricsLog,
        *,
        phase: str,
        metric: Metric,
        every: int = 50,
        split: Split | None = None,
    ) -> None:
        """Log under `phase`; `split`, if given, is evaluated after each epoch."""
        self._log, self._phase, self._metric = log, phase, metric
        self._every, self._split = every, split
        self._sum, self._count = torch.zeros(()), 0
        self._opened = False
        self.more: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the losses since the last row."""
        return {"sum": self._sum.cpu(), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        self._sum, self._count = state["sum"], state["count"]

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Add the loss to the mean and write a row when due."""
        if (
            not self._opened and trainer.process_group.rank == 0
        ):  # rows after the checkpoint that this run resumes from
            self._log.truncate_after(trainer.step - 1, phase=self._phase)
            self._opened = True
        self._sum = self._sum.to(loss.device) + loss.float()  # does not synchronise with a GPU
        self._count += 1
        last = trainer.step == trainer.total_steps
        if self.logs_loss(trainer):
            self._log_loss(trainer)
        due = last or trainer.step % trainer.steps_per_epoch == 0
        if self._split is not None and due and trainer.process_group.rank == 0:
            where = f"the select split at step {trainer.step}"
            value = evaluate(
                trainer.model, self._split, self._metric, compute=trainer.compute, where=where
            )
            name = "accuracy" if as_metric(self._metric).accuracy else "metric"
            self._row(trainer, {f"select/{name}": value})

    def logs_loss(self, trainer: Trainer) -> bool:
        """Whether a row with the loss and `more` is written at this step."""
        regular = trainer.step % self._every == 0 or trainer.step % trainer.steps_per_epoch == 0
        return regular or trainer.step == trainer.total_steps

    def _log_loss(self, trainer: Trainer) -> None:
        mean = float(self._sum) / self._count
        if not math.isfinite(mean):
            raise UserError(
                f"the training loss is {mean} at step {trainer.step}: "
                f"lower `lrn_rate` (now {trainer.recipe.lrn_rate})"
            )
        values = {"train/loss": mean, "train/lr": trainer.optimizer.param_groups[0]["lr"]}
        values |= {name: value for name, value in self.more.items() if math.isfinite(value)}
        self._row(trainer, values)
        self._sum, self._count = torch.zeros(()), 0

    def _row(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        if trainer.process_group.rank:
            return
        row: dict[str, float | int | str] = {"step": trainer.step, "epoch": trainer.epoch}
        self._log.log({**row, "phase": self._phase, **values})


class ProgressCallback(Callback):
    """Advances a progress bar."""

    def __init__(self, progress: Progress) -> None:
        """Report to `progress` in units of optimizer steps."""
        self._progress = progress
        self._earlier: Tensor | None = None
        self._looked = time.monotonic()

    def on_start(self, trainer: Trainer) -> None:
        """Count the steps done before a resume."""
        self._progress.start_from(trainer.step)

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Advance by one step; every tenth, or a second after the last one, show a loss."""
        now = time.monotonic()
        if trainer.step % _STEPS_BETWEEN_LOSSES and now - self._looked < 1:
            self._progress.advance()
            return
        self._looked = now
        earlier = loss if self._earlier is None else self._earlier  # a GPU is still at the last
        shown = float(earlier)
        self._progress.advance(note=f"loss {shown:.3f}", values={"loss": shown})
        self._earlier = loss
