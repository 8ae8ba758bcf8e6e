"""What hangs on the training loop: checkpoints, metrics, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ws_learner.core import Progress, UserError, load_state_file, save_state_file, say
from ws_learner.data import Split
from ws_learner.report import MetricsLog
from ws_learner.training.evaluation import Metric, evaluate
from ws_learner.training.trainer import Callback, Trainer

__all__ = ["CheckpointCallback", "MetricsCallback", "ProgressCallback", "Stateful"]


class Stateful(Protocol):
    """Something whose state belongs into a checkpoint, such as a sparsifier."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


_STEPS_BETWEEN_QUESTIONS = 10  # steps after which ranks ask rank 0 whether to save


class CheckpointCallback(Callback):
    """Saves the run every so often and, at the start, goes on from what it finds.

    When a checkpoint is written never changes the result: the run after a resume is the same,
    step for step, as one that was never stopped.
    """

    def __init__(
        self, path: Path, *, seconds: float = 60.0, also: Mapping[str, Stateful] | None = None
    ) -> None:
        """Save to `path` whenever `seconds` have passed since the last time."""
        self._path, self._seconds = path, seconds
        self._also = dict(also or {})
        self._last = time.monotonic()

    def on_start(self, trainer: Trainer) -> None:
        """Go on from the checkpoint, if there is one."""
        if not self._path.exists():
            return
        state = load_state_file(self._path)
        trainer.model.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.step, trainer.seconds = state["step"], state["seconds"]
        if trainer.process_group.rank == 0 and trainer.step < trainer.total_steps:
            say(f"going on from step {trainer.step}")
        for name, part in self._also.items():
            part.load_state_dict(state[name])
        if trainer.process_group.rank < len(state["rng"]):  # else another world's: seeded afresh
            _set_rng(state["rng"][trainer.process_group.rank])

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Save if it is time."""
        process_group = trainer.process_group
        if process_group.size > 1 and trainer.step % _STEPS_BETWEEN_QUESTIONS:
            return
        if process_group.broadcast_decision(time.monotonic() - self._last >= self._seconds):
            self.save(trainer)

    def on_end(self, trainer: Trainer) -> None:
        """Save the finished run, so that what follows can be repeated without training."""
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write everything that the rest of the run depends on."""
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
    """State of PyTorch's generators: of the CPU, and of the GPU in use if there is one."""
    gpu = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state()} | gpu


def _set_rng(state: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


class MetricsCallback(Callback):
    """Logs the mean loss of every `every` steps, and of an epoch's last; there an accuracy, too.

    Comes before the checkpoint and is part of it, so a resumed run logs the same rows.
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
        self.ratio: float | None = None
        self.more: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """The losses since the last row."""
        return {"sum": self._sum.cpu(), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._sum, self._count = state["sum"], state["count"]

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Add to the mean; write a row when it is time."""
        if (
            not self._opened and trainer.process_group.rank == 0
        ):  # rows beyond the checkpoint from which this run goes on
            self._log.truncate_after(trainer.step - 1, phase=self._phase)
            self._opened = True
        self._sum = self._sum.to(loss.device) + loss.float()  # not waiting for a GPU
        self._count += 1
        last = trainer.step == trainer.total_steps
        if self.logs_loss(trainer):
            self._log_loss(trainer)
        due = last or trainer.step % trainer.steps_per_epoch == 0
        if self._split is not None and due and trainer.process_group.rank == 0:
            value = evaluate(trainer.model, self._split, self._metric, compute=trainer.compute)
            self._row(trainer, {"select/accuracy": value})

    def logs_loss(self, trainer: Trainer) -> bool:
        """Whether this step writes a row with the loss, `ratio` and `more`."""
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
        if self.ratio is not None:
            values["prune/ratio"] = self.ratio
        values |= {name: value for name, value in self.more.items() if math.isfinite(value)}
        self._row(trainer, values)
        self._sum, self._count = torch.zeros(()), 0

    def _row(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        if trainer.process_group.rank:
            return
        row: dict[str, float | int | str] = {"step": trainer.step, "epoch": trainer.epoch}
        self._log.log({**row, "phase": self._phase, **values})


class ProgressCallback(Callback):
    """Moves a progress bar, a step at a time."""

    def __init__(self, progress: Progress) -> None:
        """Report to `progress`, whose unit is one optimizer step."""
        self._progress = progress
        self._earlier: Tensor | None = None

    def on_start(self, trainer: Trainer) -> None:
        """Account for the steps done before a resume."""
        self._progress.advance(trainer.step)

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """One step further."""
        if trainer.step % 10 == 0:  # an earlier loss, for which a GPU need not be waited for
            shown = loss if self._earlier is None else self._earlier
            self._progress.advance(10, note=f"loss {float(shown):.3f}")
            self._earlier = loss
