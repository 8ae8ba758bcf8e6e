"""A vision transformer on CIFAR-10, trained dense or N:M sparse from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.cifar10_transformers import TransformerOptions, transformer_experiment

if TYPE_CHECKING:
    from torch import nn

    from experiments.experiment import Experiment


@dataclass(frozen=True)
class Options(TransformerOptions):
    """Flags of this experiment."""

    width: int = 128
    """Width of a token."""
    depth: int = 4
    """Number of blocks."""
    heads: int = 4
    """Attention heads of a block."""


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.models.vit import vit

    def network() -> nn.Module:
        return vit(
            patch=options.patch,
            width=options.width,
            depth=options.depth,
            heads=options.heads,
            drop=options.drop,
            drop_path=options.drop_path,
        )

    name = f"vit{options.width}x{options.depth}p{options.patch}_at_cifar10"
    return transformer_experiment(name, network, options=options, seed=seed)
