"""Slopes of the reward: how the divergence changes with the density of each layer.

With W_i(n) the database's regressed weight of layer i with n kept, and g_i the gradient of the
divergence by that weight, the derivative by x_i = ln(density of layer i) is about

    <g_i, W_i(n e^h) - W_i(n e^-h)> / (2h).

One backward pass serves all layers. Masks and regression are in it, and so is the response of
batch norm, which uses the statistics of the batch meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from envs import IntArray
from ws_learner.core import call_model
from ws_learner.search.rollout.scoring import Scoring

__all__ = ["batch_statistics", "divergence_gradients", "log_density_slopes"]

STEP = 0.25
"""h, half the distance of the two profiles of a difference, in ln(density)."""


@contextmanager
def batch_statistics(model: nn.Module, *, batched: bool = True) -> Iterator[None]:
    """Let batch norms use the statistics of the batch, without changing their running ones.

    Args:
        model: In evaluation mode; as before afterwards.
        batched: False leaves them as they are, for batches of one example.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    norms = norms if batched else []
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.train()
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, (training, tracked) in zip(norms, before, strict=True):
            norm.train(training)
            norm.track_running_stats = tracked


def divergence_gradients(
    network: nn.Module, exam: Scoring, *, weights: Sequence[nn.Parameter], examples: int
) -> list[Tensor | None]:
    """Gradient of the mean divergence by each weight; None where a weight is not used.

    Args:
        network: The pruned network, in evaluation mode.
        exam: The scoring examples.
        weights: L weights.
        examples: Number of examples, rounded up to whole batches.
    """
    total: list[Tensor | None] = [None] * len(weights)
    seen = 0
    with torch.enable_grad(), batch_statistics(network, batched=exam.batched):
        for inputs, dense, counted in exam.compared(examples):
            seen += len(dense)
            distance = exam.divergence(call_model(network, inputs), dense, counted).sum()
            if not distance.requires_grad:  # a forward without gradient
                return total
            found = torch.autograd.grad(distance, list(weights), allow_unused=True)
            total = [
                new if known is None else known if new is None else known + new
                for known, new in zip(total, found, strict=True)
            ]
    return [None if gradient is None else gradient / seen for gradient in total]


def log_density_slopes(
    gradients: Sequence[Tensor | None],
    *,
    kept: IntArray,
    sizes: IntArray,
    weight_at: Callable[[int, int], Tensor],
    fitted: Callable[[int, int], int],
) -> tuple[float, ...]:
    """(L,) derivatives of the divergence by ln(density); NaN where there is none.

    A layer has none if it is not used, is empty, or allows no two counts around its own.

    Args:
        gradients: L gradients of the divergence by the weights.
        kept: (L,) weights kept.
        sizes: (L,) number of weights.
        weight_at: The regressed weight of a layer with that many zeros.
        fitted: The count of zeros nearest to a number that the layer's pattern allows.
    """
    slopes = []
    for layer, gradient in enumerate(gradients):
        size, here = int(sizes[layer]), int(kept[layer])
        more = min(size, max(here + 1, round(here * math.exp(STEP))))
        fewer = max(1, min(here - 1, round(here * math.exp(-STEP))))
        zeros = [fitted(layer, size - number) for number in (more, fewer)]
        distance = math.log((size - zeros[0]) or 1) - math.log((size - zeros[1]) or 1)
        if gradient is None or not here or distance <= 0 or zeros[1] == size:
            slopes.append(math.nan)
            continue
        change = weight_at(layer, zeros[0]).double() - weight_at(layer, zeros[1]).double()
        slopes.append(float((gradient.double() * change).sum()) / distance)
    return tuple(slopes)
