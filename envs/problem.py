"""The allocation problem: how many weights of each layer become zero, under one budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["AllocationProblem", "Evaluate", "FloatArray", "IntArray", "LayerRow", "Score"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One prunable tensor, a row of the layer table.

    Attributes:
        name: Parameter name in the network's state_dict, e.g. `layer1.0.conv1.weight`.
        kind: `conv1d`, `conv2d`, `conv3d`, `conv_transpose1d` and so on, `linear`, `linear_io`
            (inputs first, transformers' `Conv1D`), `recurrent`, `projection` (packed in an
            attention), `experts` (a stack of matrices), `embedding` or `tensor`, which the user
            names.
        role: `conv`, `ff`, `q`, `k`, `v`, `qkv` (one weight for all three), `o`, `embed`, `head`
            or `other`.
        shape: Shape of the weight as it is stored.
        weights: Number of weights, the product of `shape`.
        macs: Multiply-accumulates of one example's forward pass through this layer, dense.
        exempt: True if the layer stays dense under every protocol; its weights still count.
        most: Most zeros that the layer's pattern can make; None: all weights.
        least: Zeros that it has already and keeps.
        fan: Outputs, and inputs of each, where these are not the first two entries of `shape`.
    """

    name: str
    kind: str
    role: str
    shape: tuple[int, ...]
    weights: int
    macs: int
    exempt: bool = False
    most: int | None = None
    least: int = 0
    fan: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """Score of one rollout.

    Attributes:
        reward: What the search maximises.
        accuracy: Metric on the search images after fine-tuning, an accuracy or any other.
        accuracy_before: The same before fine-tuning.
        divergence: Mean divergence from the dense network's predictions, for classes the KL
            divergence in nats; None if what the outputs mean is not known.
        seconds: Wall time, for reports only; never part of a comparison.
        failed: Empty, or why the candidate could not be scored.
        slopes: (L,) derivative of the divergence by ln(density) of each layer, at the profile that
            was scored; NaN where a layer has none; None if slopes were not asked for.
    """

    reward: float
    accuracy: float
    accuracy_before: float
    divergence: float | None
    seconds: float = field(default=0.0, compare=False)
    failed: str = ""
    slopes: tuple[float, ...] | None = field(default=None, compare=False)

    @property
    def finite(self) -> bool:
        """Whether neither the reward nor a measurement is NaN or infinite."""
        measured = (self.reward, self.accuracy, self.accuracy_before, self.divergence)
        return all(math.isfinite(value) for value in measured if value is not None)


Evaluate = Callable[[Sequence[IntArray]], list[Score]]
"""Scores candidates, each an array (L,) of zero counts; results in the order given."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AllocationProblem:
    """A layer table, a budget and a scoring function. L is the number of layers.

    A candidate is an integer array (L,): the number of zero weights of each layer.

    Attributes:
        layers: The layer table, in forward order.
        target: Overall prune ratio, in [0, 1].
        lower: (L,) least zeros of each layer.
        upper: (L,) most zeros of each layer.
        prior: (L,) zeros of the default profile, within the bounds; action 0 stands for it.
        curve_ratios: (K,) ascending ratios at which the error curves were measured.
        curves: (L, K) relative squared error of each layer's output, pruned to each ratio.
        evaluate: Scores candidates; may run them in parallel.
        exact: Every candidate must meet the budget exactly (`single-obj`).
        own_densities: (J,) ascending densities, from 0, at which own divergences were measured.
        own: (L, J) divergence of each layer pruned alone; None if unknown.
        score_power: See `as_scored`; 1 if candidates are scored as they are.
        by_divergence: The reward is exp(-divergence).
    """

    layers: tuple[LayerRow, ...]
    target: float
    lower: IntArray
    upper: IntArray
    prior: IntArray
    curve_ratios: FloatArray
    curves: FloatArray
    evaluate: Evaluate
    exact: bool = True
    own_densities: FloatArray | None = None
    own: FloatArray | None = None
    score_power: float = 1.0
    by_divergence: bool = False

    @property
    def weights(self) -> IntArray:
        """(L,) number of weights of each layer."""
        return np.array([row.weights for row in self.layers], dtype=np.int64)

    @property
    def budget(self) -> int:
        """Zeros the whole network must have: round(target x weights)."""
        return round(self.target * int(self.weights.sum()))

    def __deepcopy__(self, memo: dict[int, object]) -> AllocationProblem:
        """Return the problem itself: Gymnasium copies the arguments of an environment.

        A problem is immutable, and its `evaluate` may hold a network and a data set.
        """
        return self
