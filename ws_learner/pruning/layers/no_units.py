"""A target that is less than a whole unit of the pattern in every layer prunes nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

from ws_learner.core import UserError

__all__ = ["refuse_no_units"]

_SHOWN = 4
_HALVINGS = 30


def refuse_no_units(
    zeros_at: Callable[[float], int],
    target: float,
    *,
    total: int,
    pattern: object,
    names: Iterable[str],
) -> None:
    """Refuse a target above 0 at which no unit of any layer is pruned.

    Args:
        zeros_at: Target in [0, 1] -> zeros of all layers together, in whole units.
        target: Share of zeros that is asked for.
        total: Weights of all layers.
        pattern: What the units are of.
        names: The layers.

    Raises:
        UserError: The target is above 0, the zeros are not. The message has the smallest target
            that prunes anything.
    """
    if target <= 0:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that the pattern does not divide: said once
        if zeros_at(target):
            return
        low, high = target, 1.0
        most = zeros_at(high)
        for _ in range(_HALVINGS if most else 0):
            middle = (low + high) / 2
            low, high = (low, middle) if zeros_at(middle) else (middle, high)
        least = zeros_at(high) / total
    listed = list(names)
    shown = ", ".join(listed[:_SHOWN]) + (
        f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    )
    if not most:
        raise UserError(
            f"`pattern` {pattern}: none of the layers ({shown}) holds a whole unit of it, so no "
            "target prunes anything; give another pattern or other layers"
        )
    raise UserError(
        f"`pattern` {pattern}: a target of {target:g} is less than a whole unit in every layer "
        f"({shown}), so nothing would be pruned; the nearest possible target is {least:.4g}: give "
        "that, or a finer pattern"
    )
