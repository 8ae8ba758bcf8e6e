"""The contract between an experiment file and the rest.

An experiment file defines two names:

- `Options`, a frozen dataclass: its own flags, each with a line of help below it;
- `build(options)`, which returns an `Experiment`.

Any Python file that does so can be run: `./run_local.sh path/to/mine.py --my_flag 3`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ws_learner.data.splits import DataSplits
from ws_learner.evaluation import Metric, top_k_accuracy
from ws_learner.recipe import Recipe

__all__ = ["CHECKPOINTS", "Experiment", "classification"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything a learner needs.

    Attributes:
        name: Slug for the run directory, e.g. `resnet20_at_cifar10`.
        model: Freshly initialised network.
        data: The four splits.
        loss: (outputs, targets) -> scalar.
        metric: (outputs, targets) -> (B,) scores in [0, 1].
        dense_recipe: How the dense network is trained (`--learner full-prec`).
        sparse_recipe: How the sparse network is trained.
        checkpoint: Dense weights that come with the project, if there are any.
        location: Roles that are pruned where `--ws_location` names none, such as `ff,attention`;
            all of them if empty.
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


def classification(recipe: Recipe) -> tuple[Callable[[Tensor, Tensor], Tensor], Metric]:
    """Cross-entropy, with the recipe's label smoothing, and top-1 accuracy."""
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    return loss, top_k_accuracy


def checkpoint_of(name: str) -> Path | None:
    """The committed dense weights of an experiment, or None."""
    path = CHECKPOINTS / f"{name}.safetensors"
    return path if path.exists() else None


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network whose initial weights are a function of `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
