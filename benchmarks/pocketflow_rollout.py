"""One rollout as PocketFlow's weight-sparsification learner runs it, step by step.

Source: learners/weight_sparsification/pr_optimizer.py of PocketFlow. Each layer takes 20 Adam
steps on its own outputs, then the whole network 400 on the task loss; both normalise by running
statistics. Masks are not stored: every step derives them from a percentile of the dense weights.
The accuracy is measured before and after fine-tuning, on 25 batches each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs import LayerRow
from ws_learner.data import Batch
from ws_learner.pruning import modules_by_weight, parameter_of
from ws_learner.search import layer_output

__all__ = ["EVALUATION_BATCHES", "FINE_TUNING_STEPS", "REGRESSION_STEPS", "PocketFlowRollout"]

REGRESSION_STEPS = 20
FINE_TUNING_STEPS = 400
EVALUATION_BATCHES = 25
_LRN_RATE_RG, _LRN_RATE_FT = 3e-2, 3e-4


class PocketFlowRollout:
    """A pruned copy of `dense` and the steps PocketFlow takes with it.

    Args:
        dense: The dense network, in evaluation mode.
        layers: The L layers.
        ratios: The L prune ratios.
    """

    def __init__(
        self, dense: nn.Module, *, layers: Sequence[LayerRow], ratios: Sequence[float]
    ) -> None:
        self.dense, self.layers, self._ratios = dense, layers, ratios
        self.pruned = deepcopy(dense).eval()
        self._ours = modules_by_weight(self.pruned, layers)
        self._theirs = modules_by_weight(dense, layers)
        self._weights = [parameter_of(self.pruned, row.name) for row in layers]
        with torch.no_grad():
            for layer, weight in enumerate(self._weights):
                weight.mul_(self._mask(layer))
        self._fitters = [torch.optim.Adam([weight], lr=_LRN_RATE_RG) for weight in self._weights]
        self._tuner = torch.optim.Adam(self.pruned.parameters(), lr=_LRN_RATE_FT)

    def regression_step(self, layer: int, inputs: Tensor) -> None:
        """Fit one layer to its dense outputs on one batch; both networks run up to it."""
        name = self.layers[layer].name
        target = layer_output(self.dense, self._theirs[name], inputs)
        output = layer_output(self.pruned, self._ours[name], inputs)
        if output is None or target is None:
            raise ValueError(f"{name}: the forward pass does not use this layer")
        loss = 0.5 * (output - target.detach()).square().sum()
        (gradient,) = torch.autograd.grad(loss, [self._weights[layer]])
        self._weights[layer].grad = gradient * self._mask(layer)
        self._fitters[layer].step()

    def fine_tuning_step(self, inputs: Tensor, targets: Tensor) -> None:
        """One step on the task loss, with all masks recomputed."""
        self._tuner.zero_grad(set_to_none=True)
        torch.autograd.backward(functional.cross_entropy(self.pruned(inputs), targets))
        for layer, weight in enumerate(self._weights):
            if weight.grad is not None:
                weight.grad.mul_(self._mask(layer))
        self._tuner.step()

    @torch.inference_mode()
    def evaluate(self, batches: Sequence[Batch]) -> float:
        """Accuracy on some batches."""
        right = [(self.pruned(x).argmax(1) == y).float().mean() for x, y in batches]
        return float(torch.stack(right).mean())

    def run(self, train: Iterator[Batch], validation: Iterator[Batch]) -> tuple[float, float]:
        """The whole rollout; accuracy before and after fine-tuning."""
        for layer in range(len(self.layers)):
            for _ in range(REGRESSION_STEPS):
                self.regression_step(layer, next(train)[0])
        before = self.evaluate([next(validation) for _ in range(EVALUATION_BATCHES)])
        for _ in range(FINE_TUNING_STEPS):
            self.fine_tuning_step(*next(train))
        return before, self.evaluate([next(validation) for _ in range(EVALUATION_BATCHES)])

    def _mask(self, layer: int) -> Tensor:
        magnitude = parameter_of(self.dense, self.layers[layer].name).detach().abs()
        place = round(self._ratios[layer] * (magnitude.numel() - 1))
        return magnitude > magnitude.flatten().sort().values[place]
