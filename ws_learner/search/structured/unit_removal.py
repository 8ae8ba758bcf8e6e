"""Order in which units of a set go, and the least-squares error that is left.

With H the Gram matrix of a reader's inputs and K = H^-1, removing the inputs P and regressing the
others changes the squared error of the reader's outputs by tr(W_P K_PP^-1 W_P^T) (Hassibi & Stork
1993, for many weights at once). ZipLM (Kurtic et al., NeurIPS 2023, section 3.1) removes structures
one after the other by this score; here it is summed over all readers of a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs import FloatArray
from ws_learner.pruning import RIDGE

__all__ = ["Reader", "Removal", "regress_columns", "removal_order"]

_STEPS = 128


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads the units of a set.

    Attributes:
        rows: (O, D) its dense weight, a row for each output.
        gram: (D, D) Gram matrix of its inputs.
        columns: (U, M) columns that each of the U units has.
    """

    rows: Tensor
    gram: Tensor
    columns: Tensor


@dataclass(frozen=True, eq=False)
class Removal:
    """How the units of a set go.

    Attributes:
        order: (U,) numbers of the units, the first to go first.
        errors: (U + 1,) squared error of the readers' outputs with that many units removed,
            relative to the outputs' energy and summed over the readers.
    """

    order: tuple[int, ...]
    errors: FloatArray


def removal_order(readers: Sequence[Reader], *, ridge: float = RIDGE) -> Removal:
    """Remove units greedily, always those with the least error after regression.

    Exact for the set that is removed: the error is the minimum over all weights of the remaining
    inputs. Of more than 128 units several go at a time, those of the smallest scores.

    Args:
        readers: All layers that read the units.
        ridge: Added to each Gram matrix's diagonal, as a share of its mean.
    """
    states = [_State(reader, ridge) for reader in readers]
    count = len(readers[0].columns)
    alive = torch.ones(count, dtype=torch.bool)
    order: list[int] = []
    errors = torch.zeros(count + 1, dtype=torch.float64)
    part = -(-count // _STEPS)
    while len(order) < count:
        scores = torch.stack([state.scores() for state in states]).sum(0).cpu()
        scores[~alive] = torch.inf
        size = min(part, count - len(order))
        gone = torch.sort(scores, stable=True).indices[:size]
        before = errors[len(order)]
        own = scores[gone].cumsum(0)
        rise = sum(state.remove(gone) for state in states)
        # Within a part the rise is divided as the scores are.
        share = own / own[-1] if float(own[-1]) > 0 else torch.arange(1, size + 1) / size
        errors[len(order) + 1 : len(order) + 1 + size] = before + rise * share
        order += gone.tolist()
        alive[gone] = False
    return Removal(tuple(order), errors.numpy())


class _State:
    """Weights and inverse Gram matrix of a reader during the removal."""

    def __init__(self, reader: Reader, ridge: float) -> None:
        gram = _ridged(reader.gram, ridge)
        self._rows = reader.rows.double().clone()
        self._columns = reader.columns.to(gram.device)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        energy = float(((self._rows @ reader.gram.double()) * self._rows).sum())
        self._scale = 1.0 / energy if energy > 0 else 0.0
        self._alive = torch.ones(len(self._columns), dtype=torch.bool, device=gram.device)

    def scores(self) -> Tensor:
        """(U,) rise of the relative error if one unit more goes; undefined for removed ones."""
        here = self._columns[self._alive]
        blocks = self._inverse[here[:, :, None], here[:, None, :]]  # (U, M, M)
        parts = self._rows.T[here]  # (U, M, O)
        found = torch.zeros(len(self._columns), dtype=torch.float64, device=blocks.device)
        solved = torch.linalg.solve(blocks, parts)
        found[self._alive] = (solved * parts).sum((1, 2)).clamp(min=0) * self._scale
        return found

    def remove(self, units: Tensor) -> float:
        """Remove units and regress the rest; return the rise of the relative error."""
        units = units.to(self._columns.device)
        places = self._columns[units].flatten()
        block = self._inverse[places][:, places]
        mine = self._rows[:, places]
        across = self._inverse[places]  # (P, D)
        solved = torch.linalg.solve(block, across)
        weights = torch.linalg.solve(block, mine.T)  # (P, O)
        rise = float((weights.T * mine).sum()) * self._scale
        self._rows -= weights.T @ across
        self._inverse -= across.T @ solved
        self._rows[:, places] = 0
        self._alive[units] = False
        return max(rise, 0.0)


def regress_columns(rows: Tensor, gram: Tensor, keep: Tensor, *, ridge: float = RIDGE) -> Tensor:
    """Weights that best fit the dense outputs with some inputs only; zero elsewhere.

    Args:
        rows: (O, D) dense weight.
        gram: (D, D) Gram matrix of the inputs.
        keep: (D,) bool, the inputs that stay.
        ridge: Added to the diagonal, as a share of its mean; it draws towards the dense weights.

    Returns:
        (O, D) of the dtype of `rows`.
    """
    result = torch.zeros_like(rows)
    here = keep.nonzero()[:, 0].to(rows.device)
    if len(here) == len(keep):
        return rows.clone()
    if len(here):
        exact = _ridged(gram, ridge)
        right = rows.double() @ exact[:, here]  # (O, S)
        factor = torch.linalg.cholesky(exact[here][:, here])
        result[:, here] = torch.cholesky_solve(right.T, factor).T.to(rows.dtype)
    return result


def _ridged(gram: Tensor, ridge: float) -> Tensor:
    matrix = gram.to(torch.float64, copy=True)
    diagonal = matrix.diagonal()
    level = diagonal.mean()
    diagonal.add_(ridge * (level if float(level) > 0 else torch.ones_like(level)))
    return matrix
