"""Interface of experiment files.

An experiment file defines two names:

- `Options`, a frozen dataclass: its own flags, each with a line of help below it;
- `build(options, *, seed)`, which returns an `Experiment`.

Any Python file that does so can be run: `./run_local.sh path/to/mine.py --my_flag 3`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.config import Recipe
from ws_learner.core import ComputeDevice, OutputKind, check_output_kind
from ws_learner.data import DataSplits
from ws_learner.training import Loss, Metric, top_k_accuracy

__all__ = ["CHECKPOINTS", "Experiment", "TaskMetric", "binary", "classification"]

TaskMetric = Callable[[nn.Module, ComputeDevice], dict[str, float]]
"""(network on its device, arithmetic) -> name of a measure -> its value."""

CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Network, data, loss and recipes of an experiment.

    Attributes:
        name: Slug for the run directory, e.g. `resnet20_at_cifar10`.
        model: Freshly initialised network.
        data: The four splits.
        loss: (outputs, targets) -> scalar.
        metric: (outputs, targets) -> (B,) scores in [0, 1], or a `MetricSpec`.
        dense_recipe: How the dense network is trained (`--learner full-prec`).
        sparse_recipe: How the sparse network is trained.
        checkpoint: Dense weights that come with the project, if there are any.
        location: Roles that are pruned where `--ws_location` names none, such as `ff,attention`;
            all of them if empty.
        outputs: What the network's outputs mean, see `OutputKind`; None takes what the data say,
            or infers it.
        distils: False if they are nothing that `--enbl_dst` could compare with a teacher's;
            `outputs` overrides it.
        searches: False if they are nothing that rollouts could compare with the dense network's;
            `outputs` overrides it.
        trained: Whether `model` comes with trained weights, so that no dense network has to be
            trained first.
        origin: Where the weights of `model` come from, for the line that is printed.
        stands_for: In place of some options, what they stand for in the run's identity, such as
            the hash of a file in place of its path.
        companions: Files that are written beside the network if it is exported as a folder.
        measure: What the task is judged by in print, on the test split, by name: for what is no
            mean over examples.
    """

    name: str
    model: nn.Module
    data: DataSplits
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Metric
    dense_recipe: Recipe
    sparse_recipe: Recipe
    checkpoint: Path | None = None
    location: str = ""
    outputs: OutputKind | None = None
    distils: bool = True
    searches: bool = True
    trained: bool = False
    origin: str = ""
    stands_for: Mapping[str, str] = field(default_factory=dict)
    companions: tuple[Path, ...] = ()
    measure: TaskMetric | None = None

    def __post_init__(self) -> None:
        if self.outputs is not None:
            check_output_kind(self.outputs)


def classification(recipe: Recipe) -> tuple[Callable[[Tensor, Tensor], Tensor], Metric]:
    """Cross-entropy, with the recipe's label smoothing, and top-1 accuracy."""
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    return loss, top_k_accuracy


def binary() -> tuple[Loss, Metric]:
    """Cross-entropy and accuracy of one logit (B,) per example, yes or no."""

    def loss(logits: Tensor, yes: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(logits, yes.float())

    def accuracy(logits: Tensor, yes: Tensor) -> Tensor:
        return ((logits > 0).long() == yes).float()

    return loss, accuracy


_NEWER = {"resnet20_at_cifar10": "resnet20_at_cifar10_120_epochs"}
"""Experiments with more than one file: the one that runs start from today."""


def committed_checkpoint(name: str) -> Path | None:
    """The committed dense weights of an experiment, or None."""
    path = CHECKPOINTS / f"{_NEWER.get(name, name)}.safetensors"
    return path if path.exists() else None


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network with initial weights that depend only on `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def __getattr__(name: str) -> Any:
    """Hand out former names with a notice; experiment files of users may import them."""
    former = {"checkpoint_of": committed_checkpoint, "Measure": TaskMetric}
    if name not in former:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__}.{name} is now {getattr(former[name], '__name__', 'TaskMetric')}; "
        "the old name will go in version 1.0",
        FutureWarning,
        stacklevel=2,
    )
    return former[name]
