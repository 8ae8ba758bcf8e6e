"""Optimizers that evaluate other weights than they train: schedule-free ones, SPlus."""

from __future__ import annotations

from torch.optim import Optimizer

from ws_learner.core import warn

__all__ = ["tell_of_swap"]


def tell_of_swap(optimizer: Optimizer | None) -> None:
    """Print how zeros get through `optimizer.eval()`, if that is still to be called.

    These optimizers keep an average of the weights, put it in place of them in `eval()`, and note
    in their groups as `train_mode` which of both is there.
    """
    if optimizer is None or not callable(getattr(optimizer, "eval", None)):
        return
    if not all(group.get("train_mode", True) for group in optimizer.param_groups):
        return
    warn(
        f"{type(optimizer).__name__}.eval() puts other weights in place, and pruned ones among "
        "them need not be zero: call it before finalize(), or mask_copy(model) after it"
    )
