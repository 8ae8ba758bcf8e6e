"""Base of the experiments on sentences: MiniLM and its fine-tuning recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.config import Recipe

if TYPE_CHECKING:
    from experiments.experiment import Experiment
    from ws_learner.data import DataSplits

__all__ = ["DENSE", "SPARSE", "minilm_experiment"]

DENSE = Recipe(
    nb_epochs=3,
    batch_size=32,
    optimizer="adamw",
    lrn_rate=1e-4,
    lrn_schedule="linear",
    warmup=0.1,
    weight_decay=0.01,
)
"""Devlin et al. 2019, appendix A.3, with a rate that suits a small network."""

SPARSE = Recipe(
    nb_epochs=6,
    batch_size=32,
    optimizer="adamw",
    lrn_rate=1e-4,
    lrn_schedule="linear",
    warmup=0.05,
    weight_decay=0.01,
)
"""From the fine-tuned network; half is the ramp, half is for the sparse network to converge."""


def minilm_experiment(name: str, data: DataSplits, *, seed: int, layers: int) -> Experiment:
    """Assemble all-MiniLM-L6-v2 and classes of sentences; its encoder is what is pruned."""
    from experiments.experiment import Experiment, classification, committed_checkpoint, seeded
    from experiments.models.sentence_bert import minilm

    loss, metric = classification(DENSE)
    return Experiment(
        name=name,
        model=seeded(lambda: minilm(labels=data.num_classes, layers=layers), seed),
        data=data,
        loss=loss,
        metric=metric,
        dense_recipe=DENSE,
        sparse_recipe=SPARSE,
        checkpoint=committed_checkpoint(name),
        location="ff,attention",
    )
