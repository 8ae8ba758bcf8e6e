"""Cholesky factors of damped Gram matrices, which may be singular."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["inverse_factor"]

_LEAST = 1e-10
"""First share of the mean diagonal that is added where a matrix is singular."""


def inverse_factor(matrix: Tensor) -> Tensor:
    """The upper triangular R with R^T R = H^-1: the Cholesky factor of the inverse.

    With the axes reversed, H = U U^T for an upper triangular U, and R = U^-1. This takes no
    product with an inverse, so it loses fewer digits than factorising H^-1.

    Args:
        matrix: (D, D) float64, positive semidefinite. Where it is singular, as little as needed
            is added to its diagonal.
    """
    upper = _factor(matrix.flip(0, 1)).flip(0, 1)
    unit = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    inverse: Tensor = torch.linalg.solve_triangular(upper, unit, upper=True)
    return inverse


def _factor(matrix: Tensor) -> Tensor:
    """The lower Cholesky factor; of a singular matrix, with as little damping as needed."""
    mean = float(matrix.diagonal().mean())
    more = 0.0
    while True:
        raised = (
            matrix
            if not more
            else matrix
            + more * mean * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        )
        factor, info = torch.linalg.cholesky_ex(raised)
        if not int(info):
            lower: Tensor = factor
            return lower
        more = 10 * more or _LEAST
