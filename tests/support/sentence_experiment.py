"""A tiny BERT on made-up sentences, as an experiment file."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.experiment import Experiment, classification
from tests.support.text import sentences, tiny_bert
from ws_learner.config.recipe import Recipe
from ws_learner.data.splits import DataSplits


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""


def build(options: Options, *, seed: int) -> Experiment:
    recipe = Recipe(
        nb_epochs=2, batch_size=32, optimizer="adamw", lrn_rate=5e-3, lrn_schedule="linear"
    )
    loss, metric = classification(recipe)
    sizes = {"train": 320, "search": 60, "select": 60, "test": 100}
    splits = {
        name: sentences(size, seed=number) for number, (name, size) in enumerate(sizes.items())
    }
    return Experiment(
        name="sentences",
        model=tiny_bert(seed=seed),
        data=DataSplits(
            name="sentences", digest="made up", num_classes=3, input_shape=(9,), **splits
        ),
        loss=loss,
        metric=metric,
        dense_recipe=recipe,
        sparse_recipe=recipe,
        location="ff,attention",
    )
