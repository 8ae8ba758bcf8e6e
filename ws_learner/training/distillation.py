"""Knowledge distillation from the softened predictions of a teacher network."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ws_learner.core import UserError

__all__ = ["DistillationLoss"]


class DistillationLoss:
    """Task loss + weight * CE(softmax(teacher / T), softmax(student / T)), batch mean.

    Hinton et al. 2015, section 2, as PocketFlow applies it (`--enbl_dst`): the task loss keeps its
    weight of 1, and the distillation term is NOT multiplied by T**2. For Hinton's scaling, pass
    weight * T**2.

    The teacher may be any network with the same classes. It is put into eval mode, runs without
    gradients and is never updated.
    """

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        teacher: nn.Module,
        *,
        weight: float = 4.0,
        temperature: float = 4.0,
    ) -> None:
        """Combine `loss` with a teacher.

        Args:
            loss: (outputs, targets) -> scalar.
            teacher: inputs -> logits (B, C, ...).
            weight: `--loss_w_dst`, at least 0.
            temperature: `--tempr_dst`, T above 0; the higher, the softer the predictions.

        Raises:
            UserError: A value is outside its range.
        """
        if not 0 <= weight < math.inf:
            raise UserError(
                f"`DistillationLoss.weight` {weight}: allowed are numbers of at least 0"
            )
        if not 0 < temperature < math.inf:
            raise UserError(
                f"`DistillationLoss.temperature` {temperature}: allowed are numbers above 0"
            )
        self._loss, self._weight, self._temperature = loss, weight, temperature
        self._teacher = teacher.eval()

    def __call__(self, outputs: Tensor, targets: Tensor, inputs: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            outputs: (B, C, ...) logits of the network in training.
            targets: Targets of the task loss.
            inputs: The batch's inputs, for the teacher.

        Raises:
            UserError: The teacher's logits have another shape.
        """
        with torch.no_grad():
            soft = self._teacher.to(inputs.device).eval()(inputs)
        if soft.shape != outputs.shape:
            raise UserError(
                f"the teacher of `enbl_dst` gives logits {tuple(soft.shape)}, "
                f"the network {tuple(outputs.shape)}: use a teacher with the same classes"
            )
        soft = F.softmax(_precise(soft) / self._temperature, dim=1)
        match = F.cross_entropy(_precise(outputs) / self._temperature, soft)
        return self._loss(outputs, targets) + self._weight * match


def _precise(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
