"""What is measured of a dense block from the Gram matrices of its layers, with masks by Wanda."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.language.grams import BlockGrams
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.pruning import Pattern, solve_layer
from ws_learner.search import outlier_share

__all__ = ["RATIOS", "error_curve", "outliers_of", "swapped", "wanda_weight"]

RATIOS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Ratios at which each layer's error is measured."""


def wanda_weight(weight: Tensor, gram: Tensor, *, ratio: float, pattern: Pattern) -> Tensor:
    """A layer's weight, pruned by Wanda; all of it at ratio 1, which patterns such as N:M lack."""
    if ratio == 1:
        return torch.zeros_like(weight)
    return solve_layer(weight, gram, solver="wanda", pattern=pattern, ratio=ratio).weight


@contextmanager
def swapped(
    block: nn.Module,
    layers: Sequence[BlockLayer],
    prune: Callable[[Tensor, Tensor], Tensor],
    grams: BlockGrams,
) -> Iterator[None]:
    """Inside, the block's layers have pruned weights."""
    modules = [(one, block.get_submodule(one.name)) for one in layers if one.name in grams]
    before = [module.weight for _, module in modules]
    try:
        for layer, module in modules:
            found = prune(_outputs_first(module, layer), grams[layer.name])
            found = found.T if layer.inputs_first else found
            module.weight = nn.Parameter(found.contiguous(), requires_grad=False)
        yield
    finally:
        for (_, module), weight in zip(modules, before, strict=True):
            module.weight = weight


def _outputs_first(module: nn.Module, layer: BlockLayer) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.T.contiguous() if layer.inputs_first else weight.detach()


def outliers_of(block: nn.Module, layers: Sequence[BlockLayer], grams: BlockGrams) -> float:
    """Share of scores |w| x norm of its input above five times the block's mean."""
    scores = [
        (_outputs_first(block.get_submodule(one.name), one).abs()
         * grams[one.name].diagonal().clamp(min=0).sqrt()).flatten()
        for one in layers if one.name in grams
    ]  # fmt: skip
    return outlier_share(torch.cat(scores).numpy()) if scores else 0.0


def error_curve(
    block: nn.Module, layer: BlockLayer, grams: BlockGrams, pattern: Pattern
) -> list[float]:
    """Relative squared error of a layer's output at `RATIOS`, non-decreasing."""
    weight = _outputs_first(block.get_submodule(layer.name), layer)
    if layer.name not in grams:
        return [0.0] * len(RATIOS)
    gram = grams[layer.name]
    whole = max(float(((weight @ gram) * weight).sum()), 1e-30)
    curve = []
    for ratio in RATIOS:
        solved = solve_layer(weight, gram, solver="wanda", pattern=pattern, ratio=ratio)
        lost = weight - solved.weight
        curve.append(max(float(((lost @ gram) * lost).sum()) / whole, 0.0))
    rising: list[float] = np.maximum.accumulate(curve).tolist()
    return rising
