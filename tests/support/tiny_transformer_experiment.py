"""An experiment with heads and neurons that trains in a second: a block on patches of an image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from experiments.experiment import Experiment, classification, seeded
from tests.support.tiny_experiment import CLASSES, SIDE, part
from tests.support.tiny_transformers import FusedBlock
from ws_learner.config.recipe import Recipe
from ws_learner.data.splits import DataSplits


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    inner: int = 20
    """Neurons of the feed-forward network."""


class Net(nn.Module):
    """Patches, two blocks, mean, head."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 2, stride=2)
        self.blocks = nn.Sequential(FusedBlock(inner=inner), FusedBlock(inner=inner))
        self.classifier = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        result: Tensor = self.classifier(self.blocks(tokens).mean(1))
        return result


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    recipe = Recipe(nb_epochs=4, batch_size=32, optimizer="adamw", lrn_rate=3e-3)
    loss, metric = classification(recipe)
    sizes = {"train": 256, "search": 100, "select": 100, "test": 200}
    splits = {name: part(i, size) for i, (name, size) in enumerate(sizes.items())}
    return Experiment(
        name="tiny_transformer",
        model=seeded(lambda: Net(options.inner), seed),
        data=DataSplits(
            name="tiny", digest="tiny", num_classes=CLASSES, input_shape=(3, SIDE, SIDE), **splits
        ),
        loss=loss,
        metric=metric,
        dense_recipe=recipe,
        sparse_recipe=recipe,
    )
