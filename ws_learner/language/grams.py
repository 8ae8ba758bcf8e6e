"""Sums of x xᵀ over the inputs of a block's linear layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.language.blocks import linear_layers
from ws_learner.language.calls import BlockCall, run_block

__all__ = ["BlockGrams", "collect_block_grams"]


class BlockGrams:
    """Gram matrices of a block; layers that read the same tensor share one.

    Attributes:
        leaders: Layer -> the first layer that reads the same tensor; only layers that were called.
    """

    def __init__(self, leaders: dict[str, str], sums: dict[str, Tensor]) -> None:
        self.leaders, self._sums = leaders, sums

    def __getitem__(self, layer: str) -> Tensor:
        """(I, I) float32 sum over the tokens, I the inputs of a layer."""
        return self._sums[self.leaders[layer]]

    def __contains__(self, layer: object) -> bool:
        return layer in self.leaders


def collect_block_grams(block: nn.Module, hidden: Tensor, call: BlockCall) -> BlockGrams:
    """Run a block on all windows and sum what its linear layers get.

    Args:
        block: With its weights.
        hidden: (N, T, width) inputs of the block.
        call: How it is called.
    """
    layers = linear_layers(block)
    leaders = _shared_inputs(block, layers, hidden[:1], call)
    sums: dict[str, Tensor] = {}

    def add(layer: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            tokens = inputs[0].reshape(-1, inputs[0].shape[-1])
            if layer in sums:
                sums[layer].addmm_(tokens.T, tokens)
            else:
                sums[layer] = tokens.T @ tokens

        return hook

    hooks = [layers[name].register_forward_pre_hook(add(name)) for name in set(leaders.values())]
    try:
        with torch.no_grad():
            for window in torch.split(hidden, 1):
                run_block(block, window, call)
    finally:
        for hook in hooks:
            hook.remove()
    return BlockGrams(leaders, sums)


def _shared_inputs(
    block: nn.Module, layers: dict[str, nn.Module], window: Tensor, call: BlockCall
) -> dict[str, str]:
    seen: list[tuple[Tensor, str]] = []  # held, so that no memory is used twice
    leaders: dict[str, str] = {}

    def note(layer: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            given = inputs[0]
            same = (name for one, name in seen if one is given)
            leaders.setdefault(layer, next(same, layer))
            seen.append((given, leaders[layer]))

        return hook

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in layers.items()]
    try:
        with torch.no_grad():
            run_block(block, window, call)
    finally:
        for hook in hooks:
            hook.remove()
    return leaders
