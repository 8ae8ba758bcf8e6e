"""A small network that predicts a number from the columns of a table of my own.

Run it as it is:      ws-learner prune FILE    (or ./run_local.sh FILE)
A quick try:          ws-learner prune FILE --nb_epochs 1 --num_rollouts 20
Another target:       ws-learner prune FILE --prune_ratio 0.9
All flags:            ws-learner prune FILE -h

Replace what is marked (1) to (4); the rest may stay. A trained network need not be trained again:
give its weights with --dense_checkpoint weights.safetensors (or .pt, a state_dict).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from experiments.experiment import Experiment, seeded
from ws_learner import DataSplits, MetricSpec, Recipe, split_dataset
from ws_learner.core import check_settings

COLUMNS = 8


@dataclass(frozen=True)
class Options:
    """(1) Flags of this file: each field becomes one, and the line below it is its help."""

    width: int = 64
    """Neurons of each hidden layer."""
    rows: int = 2000
    """Number of rows that are made."""

    def __post_init__(self) -> None:
        check_settings(self)  # refuses values of another type


def network(width: int) -> nn.Module:
    """(2) Your network, untrained: it maps (B, columns) to (B, 1).

    Its layers are found by themselves. The sparse network keeps its class and state_dict keys.
    """
    hidden = [nn.Linear(COLUMNS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 1))


def load(count: int) -> DataSplits:
    """(3) Your data: inputs float32 (rows, columns) and targets float32 (rows, 1).

    From a CSV: `frame = pandas.read_csv("mine.csv")`, then `torch.tensor(frame[columns].values,
    dtype=torch.float32)`. Bring columns and targets to a mean of 0 and a deviation of 1. Rows are
    split at random: 10 % to score candidates, 10 % to choose among the best, 20 % for the test at
    the end, the rest for training.
    """
    inputs, targets = make(count, seed=0)
    return split_dataset(TensorDataset(inputs, targets), num_classes=1, name="rows")


def make(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Random columns and a number that depends on three of them, with noise of deviation 0.1."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, COLUMNS, generator=generator)
    noise = 0.1 * torch.randn(count, generator=generator)
    targets = torch.sin(2 * inputs[:, 0]) + 0.5 * inputs[:, 1] * inputs[:, 2] + noise
    return inputs, targets[:, None]


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """One score (B,) per row."""
    return (outputs - targets).square().flatten(1).mean(1)


def build(options: Options, *, seed: int) -> Experiment:
    """Put the parts together; called with the flags and `--seed`."""
    return Experiment(
        name="my_table",  # part of the name of the run's folder
        model=seeded(lambda: network(options.width), seed),
        data=load(options.rows),
        loss=nn.functional.mse_loss,  # (outputs, targets) -> scalar
        metric=MetricSpec(squared_error, name="MSE", unit="", higher_is_better=False),
        outputs="values",
        # (4) How the dense network is trained, and then the sparse one from its weights. Half of
        # the sparse training is the ramp to the target.
        dense_recipe=Recipe(nb_epochs=20, batch_size=64, optimizer="adamw", lrn_rate=3e-3),
        sparse_recipe=Recipe(nb_epochs=20, batch_size=64, optimizer="adamw", lrn_rate=1e-3),
    )
