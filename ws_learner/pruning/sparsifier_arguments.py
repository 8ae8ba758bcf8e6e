"""Arguments of a `Sparsifier`, of a kind that it can take."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ws_learner.core import UserError, as_whole, check_kind

__all__ = ["check_sparsifier_arguments", "plain_ratios"]


def check_sparsifier_arguments(model: Any, *, zeros: Any, ratios: Any, total_steps: Any) -> int:
    """Refuse arguments of a wrong kind; the number of steps as an int.

    Raises:
        UserError: The network is none, targets are no dict, or the steps no whole number.
    """
    check_kind(model, nn.Module, name="model", give="the network, an nn.Module")
    for name, given in (("zeros", zeros), ("ratios", ratios)):
        if given is not None:
            check_kind(
                given, Mapping, name=name, give="a dict of parameter name -> value for each layer"
            )
    return as_whole(total_steps, name="total_steps")


def plain_ratios(ratios: Mapping[str, Any]) -> dict[str, float]:
    """Shares as plain floats.

    Raises:
        UserError: One is no number.
    """
    found = {}
    for name, ratio in ratios.items():
        value = ratio.item() if isinstance(ratio, Tensor) and ratio.numel() == 1 else ratio
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise UserError(f"prune ratio {ratio!r} for {name}: must be a number from 0 to 1")
        found[name] = float(value)
    return found
