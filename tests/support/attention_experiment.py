"""A small transformer on real digits, a row of pixels being a token: for patterns of heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.experiment import Experiment, classification, seeded
from tests.support.digits import digits_splits
from tests.support.small_bert import Layer
from ws_learner.config.recipe import Recipe


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    heads: int = 4
    """Heads of each attention."""


class RowReader(nn.Module):
    """Eight tokens of eight pixels, two layers of attention, the mean over the tokens."""

    def __init__(self, heads: int, *, width: int = 24) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(torch.randn(8, width) * 0.1)
        self.layers = nn.ModuleList(Layer(width, heads, 40) for _ in range(2))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images.flatten(1, 2)) + self.place
        for layer in self.layers:
            x = layer(x)
        result: Tensor = self.head(x.mean(1))
        return result


def build(options: Options, *, seed: int) -> Experiment:
    dense = Recipe(nb_epochs=3, batch_size=50, optimizer="adamw", lrn_rate=3e-3)
    sparse = Recipe(nb_epochs=2, batch_size=50, optimizer="adamw", lrn_rate=1e-3)
    loss, metric = classification(dense)
    return Experiment(
        name="rows",
        model=seeded(lambda: RowReader(options.heads), seed),
        data=digits_splits(),
        loss=loss,
        metric=metric,
        dense_recipe=dense,
        sparse_recipe=sparse,
    )
