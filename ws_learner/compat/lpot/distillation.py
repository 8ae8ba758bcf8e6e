"""Knowledge distillation of Neural Compressor (`criterion: KnowledgeDistillationLoss`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.compat.lpot.schema import LpotDistillation
from ws_learner.core import UserError

__all__ = ["build_lpot_distillation_loss", "teacher_outputs"]


def build_lpot_distillation_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    loss: Tensor,
    settings: LpotDistillation | None,
    axis: int = -1,
) -> Tensor:
    """w_0 loss + w_1 T^2 D, with D the soft cross-entropy or the KL divergence at temperature T.

    Args:
        student: (B, C) logits of the network in training.
        teacher: (B, C) logits of the teacher.
        loss: Scalar, what the student's own targets cost.
        settings: Temperature, kind of D, weights; by default Neural Compressor's.
        axis: Axis of the classes in logits of more than two.

    Raises:
        UserError: The logits differ in shape.
    """
    if student.shape != teacher.shape:
        raise UserError(
            f"KnowledgeDistillationLoss: the teacher gives {tuple(teacher.shape)}, the network "
            f"{tuple(student.shape)}: both need the same classes"
        )
    settings = settings or LpotDistillation()
    own, soft = settings.loss_weights
    heat = settings.temperature
    wanted = functional.softmax(teacher.detach().float() / heat, dim=axis)
    found = functional.log_softmax(student.float() / heat, dim=axis)
    if settings.kind == "KL":
        match = functional.kl_div(found, wanted, reduction="batchmean")
    else:
        match = -(wanted * found).sum(axis).mean()
    return own * loss + soft * heat**2 * match


@torch.no_grad()
def teacher_outputs(teacher: nn.Module | None, inputs: Any) -> Tensor:
    """The teacher's logits for a tensor, several in a sequence, or keyword arguments.

    Raises:
        UserError: There is no teacher, or it gives something that has no logits.
    """
    if teacher is None:
        raise UserError(
            "KnowledgeDistillationLoss: there is no teacher; assign prune.teacher_model"
        )
    teacher.eval()
    if isinstance(inputs, Mapping):
        outputs = teacher(**inputs)
    elif isinstance(inputs, Tensor):
        outputs = teacher(inputs)
    else:
        outputs = teacher(*inputs)
    outputs = getattr(outputs, "logits", outputs)
    if isinstance(outputs, Sequence):
        outputs = outputs[0]
    if not isinstance(outputs, Tensor):
        raise UserError(
            f"teacher_model gives {type(outputs).__name__}: pass its logits to "
            "on_after_compute_loss as teacher_output"
        )
    return outputs
