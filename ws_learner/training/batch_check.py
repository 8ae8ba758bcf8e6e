"""What the batches of data splits hold, checked before any work."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ws_learner.config import Recipe
from ws_learner.core import UserError, count_of, tensors_of
from ws_learner.data import LABELS, Batch, DataSplits, has_targets

__all__ = ["check_batches", "first_batch"]


def first_batch(data: DataSplits, examples: int, *, seed: int | None = None) -> Batch:
    """The first batch of the training split.

    Raises:
        UserError: It is no pair of inputs and one tensor of targets, or their lengths differ.
    """
    found: Any = next(iter(data.train.batches(examples, seed=seed)), None)
    if found is None:
        raise UserError("the train split holds no examples, so there is nothing to prune by")
    pair = isinstance(found, list | tuple) and len(found) == 2
    if not pair or not isinstance(found[1], Tensor) or next(tensors_of(found[0]), None) is None:
        raise UserError(
            f"a split yields {_said(found)}; it must yield pairs (inputs, targets) with one tensor "
            "of targets: give its examples to `split_dataset`, or pass what it yields through "
            "ws_learner.data.as_batch"
        )
    inputs, targets = found
    if targets.dim() == 0 or count_of(inputs) != len(targets):
        raise UserError(
            f"a batch holds {count_of(inputs)} inputs and targets of shape {tuple(targets.shape)}; "
            "the first axis of both must be the examples"
        )
    return inputs, targets


def check_batches(data: DataSplits, recipe: Recipe) -> None:
    """Check that training can use the batches.

    Raises:
        UserError: They have no targets, or the recipe mixes or scales inputs of several tensors.
    """
    inputs, targets = first_batch(data, 2)
    if not has_targets(targets):
        held = f"the keys {', '.join(inputs)}" if isinstance(inputs, dict) else "inputs only"
        raise UserError(
            f"the batches hold {held} and no targets, which training and its test need; in a dict "
            f"their key is one of {', '.join(LABELS)}; without targets only `allocate()` works"
        )
    if isinstance(inputs, Tensor):
        return
    for name in ("mixup", "progressive_sizes"):
        value = getattr(recipe, name)
        if value:
            raise UserError(
                f"`{name}` {value}: takes inputs of one tensor, but a batch has several, or a "
                "dict; leave it out"
            )


def _said(found: Any) -> str:
    if isinstance(found, dict):
        return f"a dict of {', '.join(map(str, found))}"
    if isinstance(found, list | tuple):
        return f"{len(found)} in a {type(found).__name__}: " + ", ".join(
            type(part).__name__ for part in found
        )
    return f"a {type(found).__name__}"
