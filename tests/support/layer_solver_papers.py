"""Wanda and SparseGPT as their papers have them: NumPy in float64, plain loops, no Gram trick."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def wanda(weight: Array, inputs: Array, *, ratio: float, n: int = 0, m: int = 0) -> Mask:
    """Sun et al. 2023, Algorithm 1: |W| ||X||_2 compared within each output, or N of M kept.

    Args:
        weight: (O, I).
        inputs: (tokens, I).
        ratio: Share of each row's weights that go; ratio x I is whole.
        n: Kept of each group of `m`; 0 is unstructured.
        m: Group of inputs.

    Returns:
        True = kept.
    """
    norms = [float(np.sqrt((inputs[:, j] ** 2).sum())) for j in range(inputs.shape[1])]
    kept = np.ones(weight.shape, dtype=bool)
    for i, row in enumerate(weight):
        scores = [abs(w) * norm for w, norm in zip(row, norms, strict=True)]
        if m:
            for start in range(0, len(row), m):
                group = range(start, start + m)
                for j in sorted(group, key=lambda j: scores[j])[: m - n]:
                    kept[i, j] = False
        else:
            count = round(ratio * len(row))
            for j in sorted(range(len(row)), key=lambda j: scores[j])[:count]:
                kept[i, j] = False
    return kept


def sparsegpt(
    weight: Array,
    inputs: Array,
    *,
    ratio: float,
    n: int = 0,
    m: int = 0,
    select: int = 128,
    damping: float = 0.01,
) -> tuple[Array, Mask]:
    """Frantar & Alistarh 2023, Algorithm 1, one column after the other without lazy updates.

    Args:
        weight: (O, I).
        inputs: (tokens, I).
        ratio: Share of the weights of every `select` columns that goes.
        n: Kept of each group of `m`; 0 is unstructured.
        m: Group of inputs.
        select: Columns whose mask is chosen together (the paper's B_s).
        damping: Lambda, as a share of the mean diagonal of X X^T.

    Returns:
        New weights and mask, True = kept.
    """
    rest = weight.copy()
    rows, columns = rest.shape
    hessian = inputs.T @ inputs
    hessian += damping * float(np.mean(np.diag(hessian))) * np.eye(columns)
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T  # upper: H^-1 = factor^T factor
    kept = np.ones(rest.shape, dtype=bool)
    width = m or select
    for j in range(columns):
        if j % width == 0:
            group = range(j, min(j + width, columns))
            saliency = {
                (i, c): rest[i, c] ** 2 / factor[c, c] ** 2 for i in range(rows) for c in group
            }
            if m:
                for i in range(rows):
                    for c in sorted(group, key=lambda c, i=i: saliency[i, c])[: m - n]:  # type: ignore[misc]
                        kept[i, c] = False
            else:
                count = round(ratio * rows * len(group))
                for i, c in sorted(saliency, key=lambda place: saliency[place])[:count]:
                    kept[i, c] = False
        for i in range(rows):
            error = (0.0 if kept[i, j] else rest[i, j]) / factor[j, j]
            for c in range(j, columns):
                rest[i, c] -= error * factor[j, c]
    return np.where(kept, rest, 0.0), kept
