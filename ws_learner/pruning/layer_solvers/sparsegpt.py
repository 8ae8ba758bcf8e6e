"""SparseGPT: columns are pruned from left to right, and those to the right make up for it.

Frantar & Alistarh 2023, Algorithm 1. With R the upper Cholesky factor of the inverse Gram matrix,
pruning weight j of a row changes the weights after it by -(w_j / R_jj) R_j,:, the best answer
while the columns before stay as they are. The loss of that weight is (w_j / R_jj)^2, which is the
score too. Deviations: zeros are counted exactly, inputs that were always zero go first and those
of them that are kept keep their value, and the factor is computed in float64 up to 4096 inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.pruning.layer_solvers.inverse_factor import inverse_factor
from ws_learner.pruning.layer_solvers.layer_problem import LayerProblem, LayerTarget, Solved
from ws_learner.pruning.layer_solvers.selection import select
from ws_learner.pruning.patterns.pattern import (
    NM,
    BlockPattern,
    ChannelPattern,
    Pattern,
    Unstructured,
)

__all__ = ["COLUMNS", "sparsegpt"]

COLUMNS = 128
"""Columns whose weights are chosen together, from their values when the sweep arrives there."""

_EXACT = 4096
"""Most inputs whose factor is computed in float64; beyond, float32 saves memory, as in the paper's
code."""


def sparsegpt(weight: Tensor, gram: Tensor, target: LayerTarget) -> Solved:
    """Prune in one sweep over the inputs (Frantar & Alistarh 2023).

    `COLUMNS` columns get their share of the zeros together; N:M groups are chosen one by one.

    See `Solver` for arguments and errors.

    Raises:
        UserError: See `Solver`; or the pattern's units span all inputs (1xchannel).
    """
    problem = LayerProblem.of(weight, gram, target)
    return sweep(problem)


def sweep(problem: LayerProblem) -> Solved:
    """`sparsegpt` of checked arguments."""
    exact = torch.float64 if problem.weight.shape[1] <= _EXACT else torch.float32
    factor = inverse_factor(problem.damped(exact)).float()
    unseen = problem.gram.diagonal() == 0
    rest = problem.weight.T.clone(memory_format=torch.contiguous_format)  # (I, O), as rows
    kept = torch.ones_like(rest, dtype=torch.bool)
    for start, stop, step, zeros in _parts(problem):
        errors = torch.empty_like(rest[start:stop])
        for first in range(start, stop, step):
            last = min(first + step, stop)
            score = (rest[first:last] / factor.diagonal()[first:last, None]).square_()
            score[unseen[first:last]] = 0
            kept[first:last] = _kept(problem, score.T.contiguous(), zeros).T
            for column in range(first, last):
                error = rest[column] * ~kept[column] / factor[column, column]
                errors[column - start] = error
                rest[column:stop].addr_(factor[column, column:stop], error, alpha=-1)
        rest[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
    return problem.solved(rest.T.contiguous(), kept.T.contiguous())


def _kept(problem: LayerProblem, score: Tensor, zeros: int | None) -> Tensor:
    """(O, columns) mask of some columns; None: all zeros that the pattern makes of them."""
    pattern, shape = problem.pattern, (int(score.shape[0]), int(score.shape[1]))
    count = pattern.feasible(shape, score.numel()) if zeros is None else zeros
    return select(score, count, pattern=pattern, compare=problem.compare)


def _parts(problem: LayerProblem) -> Iterator[tuple[int, int, int, int | None]]:
    """(first, last column, columns chosen at a time, zeros or None for all) of the sweep's parts.

    Every part gets its share of the zeros, in whole units.
    """
    pattern, (rows, columns) = problem.pattern, problem.weight.shape
    unit = _unit_width(pattern)
    width = max(COLUMNS // unit, 1) * unit
    every = pattern.feasible((rows, columns), rows * columns)
    if isinstance(pattern, NM) and not pattern.columns and problem.zeros == every:
        for start in range(0, columns, width):
            yield start, min(start + width, columns), unit, None
        return
    if not pattern.divides((rows, columns)):
        width = columns  # units of several sizes: only the whole layer makes the count exactly
    size = max((size for size, _ in pattern.classes((rows, columns))), default=1)
    total, done = problem.zeros // size, 0
    for start in range(0, columns, width):
        stop = min(start + width, columns)
        upto = total * stop // columns
        zeros = problem.zeros if width >= columns else (upto - done) * size
        yield start, stop, stop - start, zeros
        done = upto


def _unit_width(pattern: Pattern) -> int:
    """Inputs that a unit spans.

    Raises:
        UserError: All of them, or it is not known.
    """
    if isinstance(pattern, BlockPattern):
        return pattern.inputs
    if isinstance(pattern, NM):
        return 1 if pattern.columns else pattern.m
    if isinstance(pattern, Unstructured) or pattern == ChannelPattern("inputs"):
        return 1
    raise UserError(
        f"`pattern` {pattern}: the sweep goes from input to input, and a unit spans all of them; "
        "use the solver wanda or closed, or unstructured, N:M, OxI or channelx1"
    )
