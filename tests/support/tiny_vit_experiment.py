"""A tiny vision transformer on small images: an experiment file as a user would write it."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.experiment import Experiment, classification, seeded
from experiments.models.vit import vit
from tests.support.tiny_experiment import CLASSES, SIDE, part
from ws_learner.config.recipe import Recipe
from ws_learner.data.splits import DataSplits


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    width: int = 16
    """Width of a token."""
    drop: float = 0.0
    """Dropout rate."""


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    recipe = Recipe(
        nb_epochs=4, batch_size=32, optimizer="adamw", lrn_rate=3e-3, lrn_schedule="one-cycle"
    )
    loss, metric = classification(recipe)
    sizes = {"train": 256, "search": 100, "select": 100, "test": 200}
    splits = {name: part(i, size) for i, (name, size) in enumerate(sizes.items())}

    def network() -> object:
        return vit(
            image=SIDE,
            patch=2,
            width=options.width,
            depth=2,
            heads=2,
            num_classes=CLASSES,
            drop=options.drop,
        )

    return Experiment(
        name="tiny_vit",
        model=seeded(network, seed),  # type: ignore[arg-type]
        data=DataSplits(
            name="tiny", digest="tiny", num_classes=CLASSES, input_shape=(3, SIDE, SIDE), **splits
        ),
        loss=loss,
        metric=metric,
        dense_recipe=recipe,
        sparse_recipe=recipe,
    )
