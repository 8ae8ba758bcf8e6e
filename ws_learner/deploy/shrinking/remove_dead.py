"""Cut dead heads, neurons and channels out of a network, where they can be found."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ws_learner.core import UserError, say
from ws_learner.deploy.shrinking.crop import crop
from ws_learner.deploy.shrinking.shrink import shrink
from ws_learner.pruning import find_groups

__all__ = ["remove_dead"]


def remove_dead(model: nn.Module, inputs: Any) -> nn.Module:
    """The network without heads and neurons (found by name), or else channels (by graph) of zeros.

    Lines say what is cut, or why it stays.

    Args:
        model: Not changed.
        inputs: A batch.

    Returns:
        A smaller network, or the same one if there is nothing to cut.
    """
    if slim := _cropped(model, inputs):
        return slim
    try:
        result = shrink(model, inputs)
    except UserError as error:
        say(f"dead channels stay: {error}")
        return model
    gone = sum(cut.before - cut.after for cut in result.cuts)
    if not gone:
        return model
    say(f"{gone} dead channels are cut out of {len(result.cuts)} sets")
    return result.model


def _cropped(model: nn.Module, inputs: Any) -> nn.Module | None:
    example = (inputs,) if isinstance(inputs, Tensor) else inputs
    try:
        groups = find_groups(model)
        result = crop(model, example, groups=groups) if groups else None
    except UserError as error:
        say(str(error))
        return None
    if result is None or not result.removed:
        return None
    say(f"{result.removed} dead heads and neurons are cut out of {len(groups)} groups")
    return result.model
