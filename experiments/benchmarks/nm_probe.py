"""Watches gradients and masks while a network is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ws_learner.sparsifier import Sparsifier
from ws_learner.training import Callback, Trainer

__all__ = ["Probe"]


class Probe(Callback):
    """Attaches a sparsifier, if there is one, and takes notes every few steps.

    A note holds the step, the variance over all watched weights of their gradient and of Adam's
    second moment, and the share of mask positions that changed since the last note.
    """

    def __init__(
        self, sparsifier: Sparsifier | None, *, watched: Iterable[str], every: int = 20
    ) -> None:
        """Watch the weights named `watched` every `every` steps."""
        self.sparsifier, self.watched, self._every = sparsifier, list(watched), every
        self.rows: list[list[float]] = []
        self._before: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """The notes and the last masks."""
        return {"rows": [list(row) for row in self.rows], "masks": dict(self._before)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.rows = [list(row) for row in state["rows"]]
        self._before = dict(state["masks"])

    def on_start(self, trainer: Trainer) -> None:
        """Before anything is restored."""
        if self.sparsifier is not None:
            self.sparsifier.attach(trainer.optimizer)

    @torch.no_grad()
    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Take a note if it is time."""
        if trainer.step % self._every:
            return
        weights = [trainer.model.get_parameter(name) for name in self.watched]
        grads = torch.cat([w.grad.flatten() for w in weights if w.grad is not None])
        moments = [trainer.optimizer.state[w]["exp_avg_sq"].flatten() for w in weights]
        spread = [float(grads.var()), float(torch.cat(moments).var())]
        self.rows.append([trainer.step, *spread, self._changed(), float(loss)])

    def _changed(self) -> float:
        """Share of mask positions that differ from the last note's."""
        if self.sparsifier is None:
            return 0.0
        masks = {name: mask.clone() for name, mask in self.sparsifier.masks.items()}
        changed = sum(
            int((mask != self._before[n]).sum()) for n, mask in masks.items() if self._before
        )
        total = sum(mask.numel() for mask in masks.values())
        self._before = masks
        return changed / total
