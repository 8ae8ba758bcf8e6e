"""What measures a run's budgets on this machine."""

from __future__ import annotations

from torch import nn

from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.data import DataSplits
from ws_learner.deploy.costs.source import MeasuredCosts
from ws_learner.training import first_batch

__all__ = ["cost_source"]

_CALIBRATION, _CALIBRATIONS = 32, 8  # examples and batches for the ranges of bytes


def cost_source(
    model: nn.Module, data: DataSplits, config: WeightSparseConfig, *, seed: int
) -> MeasuredCosts | None:
    """Measures with training examples; None where all budgets are counted.

    Args:
        model: The dense network.
        data: Its data.
        config: Names the budgets, the batch and the threads.
        seed: Of the draw of calibration examples.

    Raises:
        UserError: There are fewer examples than the batch has.
    """
    if all(one.kind in ("params", "macs") for one in config.budgets):
        return None
    batch, there = config.ws_latency_batch, len(data.train)
    if batch > there:
        raise UserError(
            f"`ws_latency_batch` {batch}: the training split has {there} examples to measure "
            "with; give fewer"
        )
    inputs, _ = first_batch(data, batch)
    pair, _ = first_batch(data, 2)
    batches = data.train.batches(_CALIBRATION, seed=seed)
    calibration = [x for _, (x, _) in zip(range(_CALIBRATIONS), batches, strict=False)]
    return MeasuredCosts(
        model,
        inputs,
        threads=config.ws_latency_threads,
        calibration=calibration,
        pair=pair,
    )
