"""Alternating: mask and weights are improved in turn, by ADMM with a rising penalty.

The problem is: minimise tr((W - X) H (W - X)^T) over dense X that equal a sparse D. The alternating
direction method of multipliers (ADMM) repeats, for a penalty p and multipliers U,

    X = (W H - U + p D) (H + p I)^-1        the weights that fit best near D
    D = X + U / p, pruned to the pattern    the nearest sparse weights
    U = U + p (X - D)

Boyd et al. 2011, section 9.1; for layers of language models ALPS (Meng et al. 2024). As there, H
has a unit diagonal (the weights are scaled by the norms of their inputs), so that "nearest" prunes
by Wanda's score. Unlike ALPS, the start is SparseGPT's answer with the multipliers that belong to
it, and the penalty doubles in a few sweeps of three steps, each with one Cholesky factorisation
instead of an eigendecomposition. Last, the kept weights are fitted by conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ws_learner.pruning.layer_solvers.inverse_factor import positive_factor
from ws_learner.pruning.layer_solvers.layer_problem import LayerProblem, LayerTarget, Solved
from ws_learner.pruning.layer_solvers.least_squares import LayerRegression
from ws_learner.pruning.layer_solvers.selection import select
from ws_learner.pruning.layer_solvers.sparsegpt import sweep

__all__ = ["SWEEPS", "alternating", "improve"]

SWEEPS = 4
_STEPS = 3  # ADMM steps of a sweep
_FIRST, _GROWTH = 0.1, 2.0  # penalty of the first sweep, and its growth from sweep to sweep
_FIT = 4  # conjugate-gradient steps at the end


def alternating(
    weight: Tensor, gram: Tensor, target: LayerTarget, *, sweeps: int = SWEEPS
) -> Solved:
    """Improve SparseGPT's mask and weights in turn, then fit the kept weights.

    Args:
        weight: See `Solver`.
        gram: See `Solver`.
        target: The pattern's units must be those that the solver sparsegpt takes.
        sweeps: Penalties that are tried; 0 only fits the weights that SparseGPT keeps.

    Raises:
        UserError: See `Solver`; or the pattern's units span all inputs (1xchannel).
    """
    problem = LayerProblem.of(weight, gram, target)
    start = sweep(replace(problem, dtype=torch.float32))
    *_, (best, _) = improve(problem, start, sweeps=sweeps)
    fit = LayerRegression(problem.weight, problem.gram[None], ridge=problem.damping, steps=_FIT)
    return problem.solved(fit.descend(best.kept, start=best.weight), best.kept)


def improve(
    problem: LayerProblem, start: Solved, *, sweeps: int = SWEEPS
) -> Iterator[tuple[Solved, float]]:
    """Yield the best answer so far and its loss, of the start and after each sweep.

    Args:
        problem: The layer.
        start: An answer, float32.
        sweeps: Number of sweeps.
    """
    matrix = problem.damped(torch.float32)
    scale = matrix.diagonal().sqrt()  # above 0, as it is damped
    matrix.div_(scale).div_(scale[:, None])
    dense, sparse = problem.weight * scale, start.weight * scale
    unseen = problem.gram.diagonal() == 0
    change = dense - sparse
    forces = change @ matrix  # U: zero where kept weights fit best already
    best, least = start, float((forces * change).sum(dtype=torch.float64))
    yield best, least
    target = dense @ matrix
    for number in range(sweeps):
        penalty = _FIRST * _GROWTH**number
        inverse = _inverse(matrix, penalty)
        for _ in range(_STEPS):
            near = (target - forces).add_(sparse, alpha=penalty) @ inverse
            near.add_(forces, alpha=1 / penalty)
            score = near.square().masked_fill_(unseen, 0)
            kept = select(score, problem.zeros, pattern=problem.pattern, compare=problem.compare)
            sparse = near * kept
            forces = (near - sparse).mul_(penalty)  # U + p (X - D), as near = X + U / p
        change = dense - sparse
        loss = float(((change @ matrix) * change).sum(dtype=torch.float64))
        if loss < least:
            best, least = Solved(weight=sparse / scale, kept=kept), loss
        yield best, least


def _inverse(matrix: Tensor, penalty: float) -> Tensor:
    raised = matrix.clone()
    raised.diagonal().add_(penalty)
    inverse: Tensor = torch.cholesky_inverse(positive_factor(raised))
    return inverse
