"""Knowledge distillation from the softened predictions of a teacher network."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ws_learner.core import Inputs, OutputKind, UserError, call_model, check_output_kind, device_of
from ws_learner.training.outputs import counted_positions

__all__ = ["DistillationLoss"]


class DistillationLoss:
    """Task loss + weight * CE(softmax(teacher / T), softmax(student / T)), batch mean.

    Hinton et al. 2015, section 2, as PocketFlow applies it (`--enbl_dst`): the task loss keeps its
    weight of 1, and the distillation term is NOT multiplied by T**2. For Hinton's scaling, pass
    weight * T**2.

    That is for outputs that are classes or tokens; positions that do not count are left out of
    the mean. For labels it is the mean binary cross-entropy of the same softened sigmoids, for
    values the mean squared difference, and for embeddings 1 - cosine, both without a temperature.

    The teacher may be any network with the same outputs. It is put into eval mode, runs without
    gradients and is never updated.
    """

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        teacher: nn.Module,
        *,
        weight: float = 4.0,
        temperature: float = 4.0,
        outputs: OutputKind = "classes",
        pad_id: int | None = None,
    ) -> None:
        """Combine `loss` with a teacher.

        Args:
            loss: (outputs, targets) -> scalar.
            teacher: inputs -> outputs of the student's shape.
            weight: `--loss_w_dst`, at least 0.
            temperature: `--tempr_dst`, T above 0; the higher, the softer the predictions.
            outputs: What the outputs mean, see `OutputKind`.
            pad_id: Number that pads sentences, see `DataSplits.pad_id`; None counts all.

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
        self._teacher, self._outputs = teacher.eval(), check_output_kind(outputs)
        self._pad_id = pad_id

    def __call__(self, outputs: Tensor, targets: Tensor, inputs: Inputs) -> Tensor:
        """Return the scalar loss.

        Args:
            outputs: Outputs of the network in training, such as (B, C) logits.
            targets: Targets of the task loss.
            inputs: The batch's inputs, for the teacher.

        Raises:
            UserError: The teacher's outputs have another shape.
        """
        with torch.no_grad():
            soft = call_model(self._teacher.to(device_of(inputs)).eval(), inputs)
        if soft.shape != outputs.shape:
            raise UserError(
                f"the teacher of `enbl_dst` gives logits {tuple(soft.shape)}, "
                f"the network {tuple(outputs.shape)}: use a teacher with the same classes"
            )
        counted = counted_positions(
            outputs, targets, inputs, kind=self._outputs, pad_id=self._pad_id
        )
        match = self._match(_precise(outputs), _precise(soft), counted)
        return self._loss(outputs, targets) + self._weight * match

    def _match(self, outputs: Tensor, wanted: Tensor, counted: Tensor | None) -> Tensor:
        """Mean distance of the outputs from the teacher's, by what they mean."""
        if self._outputs == "values":
            return F.mse_loss(outputs, wanted)
        if self._outputs == "embeddings":
            return (1 - F.cosine_similarity(outputs, wanted, dim=-1)).mean()
        outputs, wanted = outputs / self._temperature, wanted / self._temperature
        if self._outputs == "labels":
            return F.binary_cross_entropy_with_logits(outputs, wanted.sigmoid())
        axis = 1 if self._outputs == "classes" else -1
        soft = F.softmax(wanted, dim=axis).movedim(axis, 1)
        outputs = outputs.movedim(axis, 1)
        if counted is None:
            return F.cross_entropy(outputs, soft)
        share = counted.float().mean().clamp_min(1e-12)  # positions without weight lower the mean
        return F.cross_entropy(outputs, soft * counted.unsqueeze(1)) / share


def _precise(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
