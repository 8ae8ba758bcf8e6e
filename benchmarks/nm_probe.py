"""Training callback that records gradient and mask statistics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ws_learner.pruning import Sparsifier
from ws_learner.training import Callback, Trainer

__all__ = ["Probe"]


class Probe(Callback):
    """Attaches a sparsifier, if there is one, and takes notes a few times an epoch.

    A note holds the step, the variance over all watched weights of their gradient and of Adam's
    second moment, the share of mask positions that changed since the last note, and the loss. It
    stays on the device until it is read, so a GPU is never waited for.

    Attributes:
        seconds: Wall time of each epoch.
    """

    def __init__(
        self, sparsifier: Sparsifier | None, *, watched: Iterable[str], per_epoch: int = 2
    ) -> None:
        """Watch the weights named `watched`."""
        self.sparsifier, self.watched = sparsifier, list(watched)
        self.seconds: list[float] = []
        self._per_epoch, self._begun = per_epoch, 0.0
        self._steps: list[int] = []
        self._notes: list[Tensor] = []
        self._before: Tensor | None = None

    def rows(self) -> list[list[float]]:
        """The notes, of five numbers each."""
        return [[step, *note] for step, note in zip(self._steps, self._listed(), strict=True)]

    def _listed(self) -> list[list[float]]:
        return torch.stack([note.cpu() for note in self._notes]).tolist() if self._notes else []

    def state_dict(self) -> dict[str, Any]:
        """The notes and the last masks."""
        masks = {} if self._before is None else {"masks": self._before}
        return {"steps": list(self._steps), "notes": self._listed(), **masks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        self._steps = list(state["steps"])
        self._notes = [torch.tensor(note) for note in state["notes"]]
        self._before = state.get("masks")

    def on_start(self, trainer: Trainer) -> None:
        """Before anything is restored."""
        if self.sparsifier is not None:
            self.sparsifier.attach(trainer.optimizer)
        self._begun = time.monotonic()

    @torch.no_grad()
    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Take a note if it is time."""
        if trainer.step % trainer.steps_per_epoch == 0:  # the trainer has waited for the device
            now = time.monotonic()
            self.seconds.append(now - self._begun)
            self._begun = now
        if trainer.step % max(trainer.steps_per_epoch // self._per_epoch, 1):
            return
        weights = [trainer.model.get_parameter(name) for name in self.watched]
        grads = torch.cat([w.grad.flatten() for w in weights if w.grad is not None])
        moments = torch.cat([trainer.optimizer.state[w]["exp_avg_sq"].flatten() for w in weights])
        note = torch.stack([grads.var(), moments.var(), self._changed(loss), loss.float()])
        self._notes.append(note)
        self._steps.append(trainer.step)

    def _changed(self, loss: Tensor) -> Tensor:
        """Share of mask positions that differ from the last note's."""
        if self.sparsifier is None:
            return torch.zeros((), device=loss.device)
        masks = torch.cat([mask.flatten() for mask in self.sparsifier.masks.values()])
        before = masks if self._before is None else self._before.to(masks.device)
        self._before = masks
        return (masks != before).float().mean()
