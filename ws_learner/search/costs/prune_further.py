"""Prunes a trained network a little further and trains it on, for a latency that it missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import nn

from envs import LayerRow
from ws_learner.config import ClusterConfig, WeightSparseConfig
from ws_learner.pruning import prune_once
from ws_learner.report import MetricsLog
from ws_learner.search.allocation import Allocation
from ws_learner.search.costs.finished import layer_patterns
from ws_learner.search.costs.plain_settings import locked_settings
from ws_learner.training import TrainingPhase, run_phase, train_sparse

__all__ = ["prune_further"]

_LENGTH, _RATE = 0.2, 0.1  # of the training before


def prune_further(
    network: nn.Module,
    allocation: Allocation,
    layers: Sequence[LayerRow],
    *,
    config: WeightSparseConfig,
    phase: TrainingPhase,
    cluster: ClusterConfig | None,
    number: int,
) -> tuple[nn.Module, float]:
    """Prune by magnitude to the allocation's zeros, and train what is left with the zeros locked.

    The training resumes from a checkpoint of its own, and has a log of its own beside it.

    Args:
        network: Trained to fewer zeros; changed.
        allocation: The zeros, and the layers' patterns.
        layers: The layer table.
        config: Settings of the training before.
        phase: The training before; this one is a fifth as long, at a tenth of the rate.
        cluster: Trains on Ray.
        number: Of the correction, from 1.

    Returns:
        The network, and the seconds of its training.
    """
    zeros = dict(zip((row.name for row in layers), allocation.zeros.tolist(), strict=True))
    patterns = layer_patterns(allocation, layers) or config.pattern_spelling
    prune_once(network, zeros, pattern=patterns, pool=config.ws_criterion_pool)
    state = phase.checkpoint.parent
    further = replace(
        phase,
        recipe=phase.recipe.finishing(length=_LENGTH, rate=_RATE),
        log=MetricsLog(state / f"metrics-{number}.csv"),
        checkpoint=state / f"sparse-{number}.pt",
    )
    train = partial(train_sparse, network, zeros, config=locked_settings(config))
    return run_phase(train, further, model=network, cluster=cluster)
