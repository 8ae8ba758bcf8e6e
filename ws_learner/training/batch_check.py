"""What the batches of data splits hold, checked before any work."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.config import Recipe
from ws_learner.core import UserError, count_of, describe_output, run_model, tensors_of
from ws_learner.data import LABELS, Batch, DataSplits, Split, has_targets

__all__ = ["check_batches", "first_batch", "output_entries"]


def first_batch(data: DataSplits, examples: int, *, seed: int | None = None) -> Batch:
    """The first batch of the training split.

    Raises:
        UserError: It is no pair of inputs and one tensor of targets, or their lengths differ.
    """
    return _first(data.train, examples, name="train", seed=seed)


def _first(split: Split, examples: int, *, name: str, seed: int | None = None) -> Batch:
    found: Any = next(iter(split.batches(examples, seed=seed)), None)
    if found is None:
        raise UserError(f"the {name} split holds no examples")
    pair = isinstance(found, list | tuple) and len(found) == 2
    if not pair or not isinstance(found[1], Tensor) or next(tensors_of(found[0]), None) is None:
        raise UserError(
            f"the {name} split yields {_said(found)}; it must yield pairs (inputs, targets) with "
            "one tensor of targets: give its examples to `split_dataset`, or pass what it yields "
            "through ws_learner.data.as_batch"
        )
    inputs, targets = found
    if targets.dim() == 0 or count_of(inputs) != len(targets):
        raise UserError(
            f"a batch of the {name} split holds {count_of(inputs)} inputs and targets of shape "
            f"{tuple(targets.shape)}; the first axis of both must be the examples"
        )
    return inputs, targets


def check_batches(data: DataSplits, recipe: Recipe) -> None:
    """Check that training and its test can use the batches: the first of each split.

    Raises:
        UserError: A split has no targets, or the recipe mixes or scales inputs of several tensors.
    """
    for name in ("train", "search", "select", "test"):
        inputs, targets = _first(getattr(data, name), 2, name=name)
        if not has_targets(targets):
            held = f"the keys {', '.join(inputs)}" if isinstance(inputs, dict) else "inputs only"
            raise UserError(
                f"the batches of the {name} split hold {held} and no targets, which training and "
                f"its test need; in a dict their key is one of {', '.join(LABELS)}; without "
                "targets only `allocate()` works"
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


@torch.no_grad()
def output_entries(model: nn.Module, data: DataSplits) -> dict[str, str]:
    """Entry of the summary: which output loss and metric see; empty if it is the only one.

    Args:
        model: In evaluation mode, on the CPU.
        data: The splits; two training examples are read.
    """
    inputs, _ = first_batch(data, 2)
    place = describe_output(run_model(model, inputs), inputs)
    return {"output_read": place} if place else {}


def _said(found: Any) -> str:
    if isinstance(found, dict):
        return f"a dict of {', '.join(map(str, found))}"
    if isinstance(found, list | tuple):
        return f"{len(found)} in a {type(found).__name__}: " + ", ".join(
            type(part).__name__ for part in found
        )
    return f"a {type(found).__name__}"
