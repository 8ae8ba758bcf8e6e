"""Train an experiment's dense network; save weights and test metric."""

from __future__ import annotations

from typing import Any

from experiments.experiment import Experiment
from ws_learner.config import ClusterConfig, Recipe
from ws_learner.core import ComputeDevice, RunDir, save_model
from ws_learner.training import evaluate, metric_entries, train_dense

__all__ = ["train"]


def train(
    experiment: Experiment,
    run: RunDir,
    *,
    recipe: Recipe,
    compute: ComputeDevice,
    seed: int,
    facts: dict[str, Any],
    cluster: ClusterConfig | None = None,
) -> None:
    """Train to the end of the recipe; write `model.safetensors` and `summary.json`."""
    model, data = experiment.model, experiment.data
    seconds = train_dense(
        model,
        data,
        loss=experiment.loss,
        metric=experiment.metric,
        recipe=recipe,
        compute=compute,
        seed=seed,
        run=run,
        cluster=cluster,
    )
    save_model(run.model, model.state_dict(), {"format": "pt", "experiment": experiment.name})
    found = evaluate(model, data.test, experiment.metric, compute=compute, where="the test split")
    summary = {
        "learner": "full-prec",
        **metric_entries(experiment.metric, dense=found),
        "train_seconds": round(seconds, 1),
        "seed": seed,
        "nb_epochs": recipe.nb_epochs,
    }
    run.finish(summary | facts)
