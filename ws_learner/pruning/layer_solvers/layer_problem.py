"""What a layer solver is given: a checked weight, Gram matrix, pattern and number of zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ws_learner.core import UserError, check_choice
from ws_learner.pruning.layer_solvers.least_squares import RIDGE
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.pattern import (
    ByRole,
    HeadPattern,
    Pattern,
    PerLayerNM,
    PerLayerPatterns,
    as_pattern,
)

__all__ = ["DAMPING", "Compare", "LayerProblem", "LayerTarget", "Solved"]

DAMPING = 0.01
"""Added to the Gram matrix's diagonal, as a share of its mean (Frantar & Alistarh 2023). At least
`RIDGE` is used, as a float32 Gram matrix is not exact."""

Compare = Literal["row", "layer"]
"""Among which weights the smallest scores are found: those of one output, or the whole layer."""


@dataclass(frozen=True, kw_only=True)
class LayerTarget:
    """How one layer is to be pruned.

    Attributes:
        pattern: Units that are pruned together, or their spelling.
        ratio: Share of zeros, in [0, 1]. Exactly the nearest count that whole units make is
            pruned: round(ratio x weights) of single weights.
        damping: Added to the Gram matrix's diagonal, as a share of its mean; 0 or above, of which
            at least `RIDGE` is used.
        compare: Whether every row gets the same share of zeros (`row`) or only the layer does
            (`layer`); None is the default of the solver's source.
    """

    pattern: Pattern | str
    ratio: float
    damping: float = DAMPING
    compare: Compare | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: One is out of range.
        """
        if not 0 <= self.ratio <= 1:
            raise UserError(f"`ratio` {self.ratio}: must be a share of zeros in [0, 1]")
        if not (math.isfinite(self.damping) and self.damping >= 0):
            raise UserError(f"`damping` {self.damping}: must be 0 or above, usually {DAMPING}")
        if self.compare is not None:
            check_choice(self.compare, Compare, name="compare")


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A pruned layer.

    Attributes:
        weight: (outputs, inputs), of the dense weight's type; zero where `kept` is False.
        kept: Bool mask of the same shape, True = kept.
    """

    weight: Tensor
    kept: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerProblem:
    """Prune `zeros` weights W' so that tr((W - W') H (W - W')^T) is small, H the damped Gram.

    Attributes:
        weight: (O, I) float32, dense.
        gram: (I, I) float32 sum of x x^T; the unit matrix if every input was zero, so that
            pruning is not free.
        pattern: Units that are pruned together; N:M with an N per layer has its N.
        zeros: Number of zeros, a sum of whole units.
        damping: Share of the mean diagonal, at least `RIDGE`.
        compare: See `Compare`.
        dtype: Of the weight that was given.
    """

    weight: Tensor
    gram: Tensor
    pattern: Pattern
    zeros: int
    damping: float
    compare: Compare
    dtype: torch.dtype

    def __post_init__(self) -> None:
        check_choice(self.compare, Compare, name="compare")

    @classmethod
    def of(
        cls, weight: Tensor, gram: Tensor, target: LayerTarget, *, compare: Compare = "layer"
    ) -> LayerProblem:
        """Check the arguments of a solver.

        Args:
            weight: (O, I), any floating type.
            gram: (I, I) sum of x x^T over calibration tokens; any positive multiple does.
            target: How the layer is to be pruned.
            compare: The solver's own default.

        Raises:
            UserError: The arguments do not fit together.
        """
        if weight.ndim != 2 or not weight.numel() or not weight.is_floating_point():
            raise UserError(
                f"`weight` of shape {tuple(weight.shape)} and type {weight.dtype}: must be a "
                "floating matrix (outputs, inputs) with at least one weight"
            )
        rows, columns = weight.shape
        if gram.shape != (columns, columns):
            raise UserError(
                f"`gram` of shape {tuple(gram.shape)}: must be {(columns, columns)}, as the "
                f"weight has {columns} inputs"
            )
        for name, tensor in (("weight", weight), ("gram", gram)):
            if not bool(torch.isfinite(tensor.float()).all()):
                raise UserError(f"`{name}` holds NaN or infinity: has the network diverged?")
        pattern, zeros = _zeros(as_pattern(target.pattern), (rows, columns), target.ratio)
        matrix = gram.detach().float()
        if not bool(matrix.any()):
            matrix = torch.eye(columns, device=matrix.device)
        return cls(
            weight=weight.detach().float(),
            gram=matrix,
            pattern=pattern,
            zeros=zeros,
            damping=max(target.damping, RIDGE),
            compare=target.compare or compare,
            dtype=weight.dtype,
        )

    def damped(self, dtype: torch.dtype) -> Tensor:
        """(I, I), new: the Gram matrix with `damping` x its mean diagonal on the diagonal."""
        matrix = self.gram.to(dtype, copy=True)
        matrix.diagonal().add_(self.damping * float(self.gram.diagonal().double().mean()))
        return matrix

    def solved(self, weight: Tensor, kept: Tensor) -> Solved:
        """The result in the type of the weight that was given; pruned weights become zero."""
        return Solved(weight=(weight * kept).to(self.dtype), kept=kept)


def _zeros(pattern: Pattern, shape: tuple[int, int], ratio: float) -> tuple[Pattern, int]:
    """The pattern of this layer, and the count of zeros that whole units of it make."""
    if isinstance(pattern, HeadPattern | ByRole | PerLayerPatterns):
        raise UserError(
            f"`pattern` {pattern}: one layer alone does not tell its units; use unstructured, N:M, "
            "blocks OxI, channelx1 or 1xchannel"
        )
    wanted = round(ratio * math.prod(shape))
    if isinstance(pattern, NM) and ratio > (pattern.m - pattern.n) / pattern.m + 1e-6:
        most = (pattern.m - pattern.n) / pattern.m
        raise UserError(
            f"`ratio` {ratio}: the pattern {pattern} has at most {most:g} zeros; lower the ratio "
            "or choose another pattern"
        )
    zeros = pattern.feasible(shape, wanted)
    if isinstance(pattern, PerLayerNM):
        n = pattern.n_of(shape, zeros)
        pattern = NM(min(n, pattern.m - 1), pattern.m, columns=pattern.columns)
    return pattern, zeros
