"""Placeholder."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ws_learner.pruning import Pattern


class Solved(NamedTuple):
    weight: Tensor
    kept: Tensor


def _by(score_of: Callable[[Tensor, Tensor], Tensor], rows: bool) -> Callable[..., Solved]:
    def solve(weight: Tensor, gram: Tensor, *, pattern: Pattern, ratio: float) -> Solved:
        score = score_of(weight, gram)
        if rows and str(pattern) == "unstructured":
            zeros = round(ratio * weight.numel())
            each = torch.full((weight.shape[0],), zeros // weight.shape[0])
            each[: zeros % weight.shape[0]] += 1
            order = score.argsort(dim=1, stable=True)
            kept = torch.ones_like(weight, dtype=torch.bool)
            for row, count in enumerate(each.tolist()):
                kept[row, order[row, :count]] = False
        else:
            zeros = pattern.feasible(tuple(weight.shape), round(ratio * weight.numel()))
            kept = pattern.mask(score, zeros)
        return Solved(weight * kept, kept)

    return solve


SOLVERS = {
    "magnitude": _by(lambda w, g: w.abs(), False),
    "wanda": _by(lambda w, g: w.abs() * g.diagonal().float().sqrt(), True),
}
