"""Pruning with feedback: pruned weights keep training and return once large enough."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from ws_learner.pruning.methods.scheduled_masks import GradualPruning

__all__ = ["PruningWithFeedback"]


class PruningWithFeedback(GradualPruning):
    """The score of a weight is its distance from zero, and the optimizer moves pruned ones, too.

    Lin et al. 2020, "Dynamic model pruning with feedback": the gradient by the masked weight goes
    straight through the mask to all weights. A weight that the loss pulls away from zero comes
    back, one that it pushes to zero goes; of the scores of Sanh et al. 2020 this differs by a
    factor |w| in the gradient, and it begins at the magnitudes. From the schedule's last update
    on masks are final, and only kept weights are trained.
    """

    _moving = True

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        super().after_step(optimizer, step)
        if step >= self._schedule.end_step and self._in_place.moving:
            self._in_place.moving = False
            self._in_place.mask_state(optimizer)

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method`."""
        return super().state_dict() | {"moving": torch.tensor(self._in_place.moving)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Method`."""
        rest = dict(state)
        moving = bool(rest.pop("moving", torch.tensor(True)))
        super().load_state_dict(rest)
        self._in_place.moving = moving
