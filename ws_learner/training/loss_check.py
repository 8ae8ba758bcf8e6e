"""Check on a few examples that a loss can be trained with, before any work."""

from __future__ import annotations

import copy
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.training.evaluation import Loss

__all__ = ["check_loss", "refuse_writing"]


def check_loss(
    loss: Loss, answers: Tensor, targets: Any, *, whole: Callable[[], tuple[Tensor, Any]]
) -> None:
    """Call a loss once and refuse a result that no optimizer step can be made with.

    The random generators are left as they are; of a loss that is a module a copy is called.

    Args:
        loss: The task loss.
        answers: (B, ...) outputs of the dense network for a few examples; not changed.
        targets: Theirs; not changed.
        whole: Outputs and targets of a training batch, which decides if the few are refused:
            a loss may need more of them, or ignore them all.

    Raises:
        UserError: It fails, does not return one finite real number that depends on the outputs, or
            changes its arguments.
    """
    called = copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss
    try:
        _try(called, answers, targets)
    except UserError:
        _try(called, *whole())


def _try(loss: Loss, answers: Tensor, targets: Any) -> None:
    leaf = answers.detach().float().clone().requires_grad_(True)
    given, kept = leaf * 1, _copied(targets)
    before = given.detach().clone()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.enable_grad():
            warnings.simplefilter("ignore")
            found: Any = loss(given, kept)
            told = _wrong(found, count=len(answers)) or _without_gradient(found, leaf)
    except UserError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"`loss`: fails on outputs {tuple(answers.shape)} and targets {_shape(targets)}, "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} "
            f"({place.filename}, line {place.lineno})"
        ) from error
    if told:
        raise UserError(f"`loss`: {told}")
    refuse_writing("loss", (before, given.detach()), (targets, kept))


def refuse_writing(name: str, *pairs: tuple[Any, Any]) -> None:
    """Refuse a function that has written into its arguments.

    Args:
        name: The argument that gave the function.
        pairs: Arguments before and after the call.

    Raises:
        UserError: One differs.
    """
    for before, after in pairs:
        if isinstance(before, Tensor) and not _equal(before, after):
            raise UserError(
                f"`{name}`: changes its arguments in place, which other parts of a run read "
                "again; change a copy, such as outputs.clone()"
            )


def _equal(before: Tensor, after: Tensor) -> bool:
    return before.shape == after.shape and bool(
        torch.equal(torch.nan_to_num(before), torch.nan_to_num(after))
    )


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _shape(targets: Any) -> Any:
    return tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__


def _wrong(found: Any, *, count: int) -> str:
    """What is wrong with the value that a loss returned, or an empty text."""
    if not isinstance(found, Tensor):
        return (
            f"returns {type(found).__name__}; it must return a tensor of one number, without "
            "float() or .item()"
        )
    if found.numel() != 1:
        return (
            f"returns a tensor of shape {tuple(found.shape)} for {count} examples; it must return "
            "one number, such as their mean (reduction='mean')"
        )
    if found.is_complex() or not found.is_floating_point():
        kind = str(found.dtype).removeprefix("torch.")
        return f"returns {kind}; it must return a real number that can be minimised"
    if not bool(found.isfinite().all()):
        return (
            f"is {float(found)} on the first training examples; look for divisions by 0, "
            "logarithms of 0, and targets that all do not count"
        )
    return ""


def _without_gradient(found: Tensor, leaf: Tensor) -> str:
    """What is wrong with the gradient of a loss, or an empty text."""
    detached = (
        "does not depend on the network's outputs by differentiable steps; leave out detach(), "
        "argmax() and torch.no_grad()"
    )
    if not found.requires_grad:
        return detached
    (gradient,) = torch.autograd.grad(found.sum(), leaf, allow_unused=True)
    if gradient is None:
        return detached
    if not bool(gradient.isfinite().all()):
        return (
            "has a gradient of NaN or infinity on the first training examples; look for roots and "
            "logarithms of 0"
        )
    return ""
