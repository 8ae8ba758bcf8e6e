"""Layer-wise distillation: layer outputs are trained to match the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import Inputs, UserError, name_fits, refuse_bad_patterns
from ws_learner.data import words_in
from ws_learner.training.trainer import TrainingLoss

__all__ = ["LayerDistillation", "relative_output_error"]


def relative_output_error(outputs: Tensor, wanted: Tensor, *, words: Tensor | None) -> Tensor:
    """||outputs - wanted||^2 / ||wanted||^2, over all but padding.

    Args:
        outputs: (B, ...).
        wanted: The same shape.
        words: (B, T) False at padding, for (B, T, W) outputs; None counts everything.
    """
    difference, whole = (outputs.float() - wanted.float()).square(), wanted.float().square()
    if words is not None and difference.dim() == 3 and difference.shape[:2] == words.shape:
        difference, whole = difference * words[..., None], whole * words[..., None]
    return difference.sum() / whole.sum().clamp_min(torch.finfo(torch.float32).tiny)


class LayerDistillation:
    """A criterion plus weight x mean relative error of the layers' outputs.

    Layers are compared one to one, without projections: teacher and student have the same
    architecture. This is TinyBERT's second term (Jiao et al. 2020, section 3.1), scale-free.
    """

    def __init__(
        self,
        criterion: TrainingLoss,
        student: nn.Module,
        *,
        teacher: nn.Module,
        layers: Sequence[str],
        weight: float,
        pad_id: int | None = None,
    ) -> None:
        """Register hooks on both networks.

        Args:
            criterion: (outputs, targets, inputs) -> scalar; calls the teacher on the inputs.
            student: The network in training. If training runs in other processes, both
                networks are pickled together.
            teacher: The teacher, with modules of the same names.
            layers: Module names as shell patterns, such as `bert.encoder.layer.?`.
            weight: Weight of the mean error, at least 0.
            pad_id: Number that pads sentences, whose outputs do not count; None counts all.

        Raises:
            UserError: A pattern matches no module, or not the same ones in both networks.
        """
        self._criterion, self._weight, self._pad_id = criterion, weight, pad_id
        self._seen: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for network, seen in zip((student, teacher), self._seen, strict=True):
            for name in _matching(network, layers):
                network.get_submodule(name).register_forward_hook(_keeper(seen, name))
        if _matching(student, layers) != _matching(teacher, layers):
            raise UserError(
                f"`dst_layers` {' '.join(layers)}: the teacher has other layers of these names"
            )

    def __call__(self, outputs: Tensor, targets: Tensor, inputs: Inputs) -> Tensor:
        """Return the scalar loss of the batch of the student's last forward pass."""
        loss = self._criterion(outputs, targets, inputs)
        student, teacher = self._seen
        words = words_in(inputs, pad_id=self._pad_id)
        errors = [
            relative_output_error(student[name], teacher[name], words=words) for name in student
        ]
        for seen in self._seen:  # free the graph after each step
            seen.clear()
        return loss + self._weight * torch.stack(errors).mean()


def _matching(network: nn.Module, layers: Sequence[str]) -> list[str]:
    names = [name for name, _ in network.named_modules() if name]
    refuse_bad_patterns(layers, setting="dst_layers")
    for pattern in layers:
        if not any(name_fits(name, pattern) for name in names):
            raise UserError(f"`dst_layers` {pattern}: no module has such a name; e.g. {names[-1]}")
    return [name for name in names if any(name_fits(name, pattern) for pattern in layers)]


def _keeper(seen: dict[str, Tensor], name: str) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        seen[name] = output[0] if isinstance(output, tuple) else output

    return keep
