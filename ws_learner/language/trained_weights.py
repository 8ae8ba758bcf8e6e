"""Weights that are trained under a mask: all of them, or a product of two narrow matrices.

The second is LoRA (Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022,
section 4.1) with the mask on the sum, so that merging it leaves the zeros where they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["TrainedWeights"]

_SCALE = 2.0  # of the product, as alpha = 2 x rank


class TrainedWeights:
    """The weights of some layers, set to train.

    Zeros stay zeros: their gradient is zero in every step, with Adam's moments, too.

    Attributes:
        parameters: What the optimiser trains, by layer.
    """

    def __init__(self, layers: Mapping[str, nn.Module], *, rank: int, seed: int) -> None:
        """Prepare layers.

        Args:
            layers: Layers with a matrix `weight`, by any name.
            rank: Of the product that is added to a weight; 0 trains the weight itself.
            seed: Of the product's first values.
        """
        self._layers, self._rank = dict(layers), rank
        self.parameters: dict[str, nn.Parameter] = {}
        generator = torch.Generator().manual_seed(seed)
        for name, layer in self._layers.items():
            if rank:
                product = _MaskedProduct(_weight(layer), rank, generator)
                parametrize.register_parametrization(layer, "weight", product)
                self.parameters |= {f"{name}.down": product.down, f"{name}.up": product.up}
            else:
                self.parameters[name] = _train_masked(layer)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over the values of an earlier process."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])

    def merge(self) -> dict[str, Tensor]:
        """The layers' weights by name, with products added; the layers are plain again."""
        for layer in self._layers.values():
            if self._rank and parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        return {name: _weight(layer).detach() for name, layer in self._layers.items()}


class _MaskedProduct(nn.Module):
    """W + mask x scale x up down."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        first, second = weight.shape
        values = torch.randn(rank, second, generator=generator) / second**0.5
        self.down = nn.Parameter(values)
        self.up = nn.Parameter(torch.zeros(first, rank))
        self.register_buffer("kept", weight != 0, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        kept = self.kept
        assert isinstance(kept, Tensor)
        return weight + kept * (_SCALE * (self.up @ self.down))


def _train_masked(layer: nn.Module) -> nn.Parameter:
    weight = _weight(layer)
    weight.requires_grad_(True)
    kept = weight.detach() != 0

    def keep_zeros(parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad.mul_(kept)

    weight.register_post_accumulate_grad_hook(keep_zeros)  # type: ignore[no-untyped-call]
    return weight


def _weight(layer: nn.Module) -> nn.Parameter:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight  # type: ignore[return-value]
