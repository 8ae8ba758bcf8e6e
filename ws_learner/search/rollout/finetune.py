"""Fine-tuning of a pruned network: a few Adam steps on the task loss; zeros stay zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ws_learner.core import call_model
from ws_learner.data import Batch
from ws_learner.training import Loss

__all__ = ["fine_tune"]


def fine_tune(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    loss: Loss,
    lrn_rate: float,
    parameters: Sequence[nn.Parameter],
    masks: Sequence[Tensor],
) -> None:
    """Take one Adam step on each batch, in place. The model is in evaluation mode afterwards.

    Batch norm uses its running statistics, as in PocketFlow: they have just been
    recalibrated and a few small steps hardly change them, so that the trained function is the one
    that is scored. Scale, shift and biases are trained.

    Args:
        model: The pruned network.
        batches: (inputs, targets) on the model's device.
        loss: Task loss.
        lrn_rate: Adam's learning rate.
        parameters: The pruned tensors.
        masks: Bool tensor per pruned tensor, True = kept.
    """
    model.eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lrn_rate)
    for inputs, targets in batches:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss(call_model(model, inputs), targets))
        for parameter, mask in zip(parameters, masks, strict=True):
            if parameter.grad is not None:  # without a gradient, Adam leaves a zero at zero
                parameter.grad.mul_(mask)
        optimizer.step()
    model.zero_grad(set_to_none=True)
