"""Solvers that keep the largest scores and leave the kept weights as they are."""

from __future__ import annotations

from torch import Tensor

from ws_learner.pruning.criteria import magnitude as magnitude_of
from ws_learner.pruning.layer_solvers.layer_problem import LayerProblem, LayerTarget, Solved
from ws_learner.pruning.layer_solvers.selection import select

__all__ = ["magnitude", "wanda", "wanda_score"]


def magnitude(weight: Tensor, gram: Tensor, target: LayerTarget) -> Solved:
    """Prune the smallest |w| (Han et al. 2015); the inputs do not matter.

    See `Solver` for arguments and errors.
    """
    problem = LayerProblem.of(weight, gram, target)
    return _keep_largest(problem, magnitude_of(problem.weight))


def wanda(weight: Tensor, gram: Tensor, target: LayerTarget) -> Solved:
    """Prune the smallest |w_ij| ||x_j|| of each row (Sun et al. 2023, section 3).

    The score is squared here, which changes no order of single weights: over a block the mean of
    squares is the error that pruning it adds, if inputs are uncorrelated.

    See `Solver` for arguments and errors.
    """
    problem = LayerProblem.of(weight, gram, target, compare="row")
    return _keep_largest(problem, wanda_score(problem.weight, problem.gram))


def wanda_score(weight: Tensor, gram: Tensor) -> Tensor:
    """(O, I): w_ij^2 G_jj, what pruning one weight alone adds to the squared error."""
    return weight.square() * gram.diagonal()


def _keep_largest(problem: LayerProblem, score: Tensor) -> Solved:
    kept = select(score, problem.zeros, pattern=problem.pattern, compare=problem.compare)
    return problem.solved(problem.weight, kept)
