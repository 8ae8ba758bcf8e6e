"""Cholesky factors of damped Gram matrices, which may be singular."""

from __future__ import annotations

import torch
from torch import Tensor

from ws_learner.core import UserError

__all__ = ["inverse_factor", "positive_factor"]

_SHARES = (0.0, *(10.0**power for power in range(-10, 1)))
"""Of the mean diagonal, added in turn until a matrix can be factorised."""


def inverse_factor(matrix: Tensor) -> Tensor:
    """The upper triangular R with R^T R = H^-1: the Cholesky factor of the inverse.

    With the axes reversed, H = U U^T for an upper triangular U, and R = U^-1. This takes no
    product with an inverse, so it loses fewer digits than factorising H^-1. At most three matrices
    of H's size are held, besides H.

    Args:
        matrix: (D, D), positive semidefinite. Where it is singular, as little as needed is added
            to its diagonal.
    """
    reversed_ = matrix.flip(0, 1)
    del matrix  # the caller keeps none
    upper = positive_factor(reversed_).flip(0, 1)
    del reversed_
    inverse = torch.eye(len(upper), dtype=upper.dtype, device=upper.device).T  # columns first
    torch.linalg.solve_triangular(upper, inverse, upper=True, out=inverse)  # in its place
    return inverse


def positive_factor(matrix: Tensor) -> Tensor:
    """The lower Cholesky factor of (D, D).

    To the diagonal of a singular matrix, as little as needed is added, in place.

    Raises:
        UserError: Even its mean is not enough.
    """
    mean = float(matrix.diagonal().mean())
    added = 0.0
    for share in _SHARES:
        matrix.diagonal().add_((share - added) * mean)
        added = share
        factor, info = torch.linalg.cholesky_ex(matrix)
        if not int(info):
            lower: Tensor = factor
            return lower
    raise UserError("`gram`: not positive semidefinite; it must be a sum of x x^T")
