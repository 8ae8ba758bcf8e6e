"""What 8 bits do to a layer: rounded weights, and the noise of rounded inputs.

A layer of format int8 has weights -127 to 127 with one scale for each output, that of its largest
weight, and inputs of 256 steps with one range for the layer, that of its calibration inputs, which
is widened to hold 0. A rounding error is taken as uniform noise of variance step^2 / 12,
independent of the inputs and of other errors (Widrow & Kollar 2008, ch. 4). An output of weights q
then has the additional variance share x step^2 / 12 x |q|^2, where `share` is the share of inputs
that are not 0, because 0 is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from envs import FloatArray, LayerRow
from ws_learner.core import Inputs, run_model
from ws_learner.pruning import Layout, Use, WeightUses, watched_weights

__all__ = ["input_noise", "rounded"]

_STEPS = 255
_MOST = 127


def rounded(weight: Tensor, layout: Layout) -> Tensor:
    """The weight in 8 bits and back, a scale for each output; zeros stay zeros."""
    rows = layout.rows(weight)
    flat = rows.reshape(len(rows), -1)
    scales = flat.abs().amax(1, keepdim=True) / _MOST
    scales = torch.where(scales > 0, scales, torch.ones_like(scales))
    whole = (flat / scales).round().clamp(-_MOST, _MOST)
    return layout.stored((whole * scales).reshape(rows.shape), tuple(weight.shape))


@torch.no_grad()
def input_noise(
    model: nn.Module, batches: Iterable[Inputs], *, layers: Sequence[LayerRow]
) -> FloatArray:
    """(L,) expected squared rounding error of an input of each layer; NaN if none was seen.

    Args:
        model: Called in evaluation mode; its mode is restored.
        batches: Calibration inputs on the model's device.
        layers: The L layers.
    """
    weights = watched_weights(model, [row.name for row in layers])
    seen = {weight.name: _Range() for weight in weights}
    uses = WeightUses(model, weights, lambda use: seen[use.weight.name].add(use))
    training = model.training
    model.eval()
    with uses.observing():
        for inputs in batches:
            run_model(model, inputs)
            uses.forget()
    model.train(training)
    return np.array([seen[row.name].noise() for row in layers])


@dataclass
class _Range:
    """Range of a layer's inputs, and how many are not 0."""

    low: float = 0.0
    high: float = 0.0
    nonzero: int = 0
    count: int = 0

    def add(self, use: Use) -> None:
        if use.inputs is None or not use.inputs.numel():
            return
        low, high = torch.aminmax(use.inputs)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.nonzero += int(use.inputs.count_nonzero())
        self.count += use.inputs.numel()

    def noise(self) -> float:
        if not self.count:
            return float("nan")
        step = (self.high - self.low) / _STEPS
        return self.nonzero / self.count * step**2 / 12
