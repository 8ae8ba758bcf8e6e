"""PocketFlow's layer-wise regression: Adam steps per layer on the layer's outputs.

Source: learners/weight_sparsification/pr_optimizer.py of PocketFlow. A layer's target is its
output in the dense network. Its input comes from the pruned network, in which earlier layers are
already regressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from envs import LayerRow
from ws_learner.core import Inputs, run_model, say
from ws_learner.pruning import modules_by_weight, parameter_of

__all__ = ["layer_output", "regress_by_adam"]


class _Reached(Exception):  # noqa: N818  (a signal, not an error)
    """Signal that the layer was reached and the rest of the network need not run."""


def regress_by_adam(
    pruned: nn.Module,
    dense: nn.Module,
    *,
    layers: Sequence[LayerRow],
    masks: Sequence[Tensor],
    batches: Sequence[Inputs],
    lrn_rate: float,
) -> None:
    """Fit each layer of `pruned` to `dense`, one Adam step per batch and layer, in place.

    The loss is half the sum of squared differences over batch and positions, before bias, batch
    norm and activation (a bias is the same in both and cancels). Both networks are in evaluation
    mode afterwards. A layer that runs several times is fitted at its first run. A weight that no
    call of a convolution or Linear uses is reported, and only masked.

    Args:
        pruned: The network with pruned weights already zero.
        dense: The same network before pruning.
        layers: The layers in forward order.
        masks: Bool tensor per layer, True = kept.
        batches: Training inputs, one batch per step.
        lrn_rate: Adam's learning rate, the same for every layer.
    """
    pruned.eval()
    dense.eval()
    ours, theirs = modules_by_weight(pruned, layers), modules_by_weight(dense, layers)
    left: list[str] = []
    for row, mask in zip(layers, masks, strict=True):
        if bool(mask.all()):
            continue
        if not row.kind.startswith(("conv", "linear")):
            left.append(row.name)
            continue
        weight = parameter_of(pruned, row.name)
        optimizer = torch.optim.Adam([weight], lr=lrn_rate)
        for inputs in batches:
            target = layer_output(dense, theirs[row.name], inputs)
            output = layer_output(pruned, ours[row.name], inputs)
            if output is None or target is None:  # the forward pass does not call this layer
                left.append(row.name)
                break
            loss = 0.5 * (output - target.detach()).square().sum()
            (gradient,) = torch.autograd.grad(loss, [weight])
            weight.grad = gradient * mask
            optimizer.step()
        weight.grad = None
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        say(f"regression by adam: {', '.join(left[:5])}{more}: not called, and so not fitted")


def layer_output(model: nn.Module, layer: nn.Module, inputs: Inputs) -> Tensor | None:
    """Run the model without gradients up to the layer, and the layer with gradients."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def stop(module: nn.Module, args: tuple[Any, ...], words: dict[str, Any]) -> None:
        seen.append((args, words))
        raise _Reached

    handle = layer.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad():
            run_model(model, inputs)
    except _Reached:
        pass
    finally:
        handle.remove()
    if not seen:
        return None
    places, words = seen[0]
    output: Tensor = layer(*places, **words)
    return output
