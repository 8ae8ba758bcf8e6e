"""Zeros per parameter: look up sizes, check counts, round ratios."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Mapping

from torch import nn

from ws_learner.core import UserError, share_hint
from ws_learner.pruning.layers.lazy import refuse_lazy

__all__ = ["checked_zeros", "sizes_of", "split_ratios"]


def sizes_of(model: nn.Module, given: Mapping[str, object] | None) -> dict[str, int]:
    """Look up the number of weights of each parameter named.

    Raises:
        UserError: None is named, one does not exist, or two are the same; or the model is lazy.
    """
    refuse_lazy(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if not given:
        raise UserError("no layer to prune was named")
    sizes: dict[str, int] = {}
    seen: dict[int, str] = {}
    for name in given:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=3, cutoff=0.4)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else f"e.g. {next(iter(parameters))}"
            )
            raise UserError(
                f"prune ratio for {name!r}: the model has no such parameter; {hint} "
                f"({len(parameters)} parameters)"
            )
        twin = seen.setdefault(id(parameters[name]), name)
        if twin != name:
            raise UserError(f"prune ratios for {twin} and {name}: they are one shared parameter")
        sizes[name] = parameters[name].numel()
    return sizes


def checked_zeros(zeros: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """Validate counts of zeros; return them as plain ints.

    Raises:
        UserError: A count is not within its parameter.
    """
    targets = {name: operator.index(count) for name, count in zeros.items()}
    for name, count in targets.items():
        if not 0 <= count <= sizes[name]:
            raise UserError(f"{count} zeros for {name}: allowed are 0 to {sizes[name]}")
    return targets


def split_ratios(ratios: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, int]:
    """Round shares to counts by largest remainder; among equal ones the first layer gains.

    Raises:
        UserError: A share is not within [0, 1].
    """
    for name, ratio in ratios.items():
        if not 0 <= ratio <= 1:
            raise UserError(
                f"prune ratio {ratio} for {name}: allowed are 0 to 1{share_hint(ratio)}"
            )
    wanted = {name: ratio * sizes[name] for name, ratio in ratios.items()}
    counts = {name: math.floor(value) for name, value in wanted.items()}
    left = round(sum(wanted.values())) - sum(counts.values())
    by_remainder = sorted(wanted, key=lambda name: counts[name] - wanted[name])
    for name in by_remainder[:left]:
        counts[name] += 1
    return counts
