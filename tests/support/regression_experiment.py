"""A regression as a user would write it: two numbers from six, judged by their mean error."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.experiment import Experiment, seeded
from tests.support.tasks import MSE, mlp, regression
from ws_learner.config.recipe import Recipe


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    plain: bool = False
    """Pass the error as a plain function, which it must not be."""


def build(options: Options, *, seed: int) -> Experiment:
    task = regression()
    recipe = Recipe(nb_epochs=4, batch_size=20, lrn_rate=0.02, optimizer="adam")
    return Experiment(
        name="regression",
        model=seeded(lambda: mlp(6, 2), seed),
        data=task.data,
        loss=task.loss,
        metric=MSE.function if options.plain else MSE,
        dense_recipe=recipe,
        sparse_recipe=recipe,
    )
