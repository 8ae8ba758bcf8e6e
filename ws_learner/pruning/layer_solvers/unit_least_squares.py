"""Regression under patterns whose units span several outputs: one factorisation for all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from ws_learner.pruning.layer_solvers.least_squares import LayerRegression

__all__ = ["UnitRegression"]


class UnitRegression(LayerRegression):
    """`LayerRegression` that solves rows of the same mask together.

    Under the pattern 16x4 sixteen outputs have the same kept inputs, so one Cholesky factor serves
    them all; under 1xchannel nothing is left to solve. Same solution up to rounding.
    """

    def solve(self, mask: Tensor) -> Tensor:
        """See `LayerRegression.solve`."""
        keep = mask.reshape(self._rows.shape)
        kinds = [torch.unique(rows, dim=0, return_inverse=True) for rows in keep]
        if self._steps_are_cheaper(keep, [masks for masks, _ in kinds]):
            solved = self._descend(keep, self._rows, self._steps)
        else:
            solved = torch.stack([self._solve_group(i, *kind) for i, kind in enumerate(kinds)])
        return (solved * keep).to(self._weight.dtype).reshape(self._weight.shape)

    def _steps_are_cheaper(self, keep: Tensor, masks: list[Tensor]) -> bool:
        if not self._many(keep):
            return False
        groups, outputs, width = keep.shape
        kept = torch.cat(masks).sum(1).double()
        systems = torch.minimum(kept, width - kept)
        return float((systems**3).sum()) / 3 > self._steps * 2.0 * groups * outputs * width**2

    def _solve_group(self, group: int, masks: Tensor, kind_of: Tensor) -> Tensor:
        dense, width = self._rows[group], self._rows.shape[2]
        solved = dense.clone()
        for index, (keep, count) in enumerate(zip(masks, masks.sum(1).tolist(), strict=True)):
            rows = (kind_of == index).nonzero()[:, 0]
            if 0 < 2 * count <= width:
                places = keep.nonzero()[:, 0]
                right = self._targets()[group, rows][:, places]
                solved[rows[:, None], places] = _solve(self._gram[group], places, right.T).T
            elif 0 < count < width:
                places = (~keep).nonzero()[:, 0]
                inverse = self._inverted()[group]
                change = _solve(inverse, places, dense[rows][:, places].T)
                solved[rows] -= change.T @ inverse[places]
        return solved


def _solve(matrix: Tensor, places: Tensor, right: Tensor) -> Tensor:
    """Solve matrix[places, places] x = right (P, R), for a positive definite matrix."""
    square = matrix.index_select(0, places).index_select(1, places)
    factor, info = torch.linalg.cholesky_ex(square)
    if int(info):  # numerically singular: the least-norm solution
        exact = torch.linalg.pinv(square.double(), hermitian=True)
        least: Tensor = exact @ right.double()
        return least.float()
    return torch.cholesky_solve(right, factor)
