"""A Swin transformer on CIFAR-10, trained dense or N:M sparse from scratch."""

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

    window: int = 4
    """Patches along the side of a window."""
    width: int = 64
    """Width of a token in the first stage; it doubles from stage to stage."""
    depths: tuple[int, ...] = (2, 2)
    """Blocks of each stage."""
    stage_heads: tuple[int, ...] = (2, 4)
    """Attention heads of each stage's blocks."""


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.models.swin import swin

    def network() -> nn.Module:
        return swin(
            patch=options.patch,
            window=options.window,
            width=options.width,
            depths=options.depths,
            heads=options.stage_heads,
            drop=options.drop,
            drop_path=options.drop_path,
        )

    depths = "-".join(map(str, options.depths))
    name = f"swin{options.width}x{depths}p{options.patch}_at_cifar10"
    return transformer_experiment(name, network, options=options, seed=seed)
