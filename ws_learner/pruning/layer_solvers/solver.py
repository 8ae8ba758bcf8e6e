"""Prune one linear layer by a named solver."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ws_learner.config import SOLVERS, SolverName, load_object
from ws_learner.pruning.layer_solvers.layer_problem import (
    DAMPING,
    Compare,
    LayerTarget,
    Solved,
)
from ws_learner.pruning.patterns.pattern import Pattern

__all__ = ["Solver", "build_solver", "solve_layer"]


class Solver(Protocol):
    """Chooses the zeros of one linear layer y = W x, and perhaps new values for the other weights.

    All solvers look at the squared error of the layer's outputs over the calibration tokens,
    tr((W - W') G (W - W')^T), where G is the sum of x x^T.
    """

    def __call__(self, weight: Tensor, gram: Tensor, target: LayerTarget) -> Solved:
        """Prune a layer.

        Args:
            weight: (outputs, inputs), dense. Computations are in float32, factors in float64.
            gram: (inputs, inputs); a multiple of it gives the same result. If it is all zero, the
                unit matrix is used.
            target: Pattern, ratio, and how weights are compared.

        Raises:
            UserError: The arguments do not fit together.
        """


def build_solver(name: SolverName) -> Solver:
    """The solver of a name.

    Raises:
        UserError: There is none; the message names the nearest.
    """
    found: Solver = load_object(SOLVERS.find(name).solve)
    return found


@torch.no_grad()
def solve_layer(
    weight: Tensor,
    gram: Tensor,
    *,
    solver: SolverName,
    pattern: Pattern | str,
    ratio: float,
    damping: float = DAMPING,
    compare: Compare | None = None,
) -> Solved:
    """Prune one linear layer.

    Args:
        weight: See `Solver`.
        gram: See `Solver`.
        solver: A name in `SOLVERS`.
        pattern: See `LayerTarget`, like all that follow.
        ratio: Share of zeros.
        damping: Share of the Gram matrix's mean diagonal.
        compare: None is the solver's own default.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> weight, inputs = torch.randn(8, 16, generator=generator), torch.rand(16, 99)
        >>> solved = solve_layer(
        ...     weight, inputs @ inputs.T, solver="sparsegpt", pattern="2:4", ratio=0.5
        ... )
        >>> int(solved.kept.sum())
        64

    Raises:
        UserError: There is no such solver, or an argument is out of range, or they do not fit
            together.
    """
    target = LayerTarget(pattern=pattern, ratio=ratio, damping=damping, compare=compare)
    return build_solver(solver)(weight, gram, target)
