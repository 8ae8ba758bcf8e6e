"""Input of the closed-form protocols: layer table, budget, magnitudes and error curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from envs import FloatArray, IntArray, LayerRow
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.pruning import (
    ByRole,
    PerLayerNM,
    build_pattern_plan,
    counts_of,
    parameter_of,
    parse_pattern,
)
from ws_learner.search.bounds import bounds_alone, layer_bounds
from ws_learner.search.units import limiting_plan

__all__ = [
    "AllocationContext",
    "Curves",
    "LayerMagnitudes",
    "Restatement",
    "allocation_context",
    "magnitudes_of",
    "refuse_bounds",
]

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_OF_NUMPY = {np.float32: torch.float32, np.float64: torch.float64}
_PART = 1 << 18

Curves = tuple[FloatArray, FloatArray]
"""(K,) ascending ratios, and (L, K) relative squared errors of each layer's output at them."""


def _no_inputs() -> Sequence[FloatArray]:
    raise UserError(
        "`wanda_scores`: this context knows no inputs of the layers; give `allocation_context` "
        "`wanda_scores=evaluator.wanda_scores`"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Restatement:
    """How a context in units of cost comes from one in weights.

    Attributes:
        unit: The unit, such as `macs`.
        at: The context of a share of the cost that is saved.
        weightwise: Runs a protocol that ranks or counts weights, by its name; None: none can.
        zeros: (L,) zeros, for reading, of a profile in units.
        layers: The layer table in weights.
    """

    unit: str
    at: Callable[[float], AllocationContext]
    weightwise: Callable[[str], IntArray] | None
    zeros: Callable[[IntArray], IntArray]
    layers: tuple[LayerRow, ...]

    @property
    def shown(self) -> tuple[Callable[[IntArray], IntArray], tuple[LayerRow, ...]]:
        """What turns a profile into zeros, and the layers in weights."""
        return self.zeros, self.layers


@dataclass(frozen=True, kw_only=True, eq=False)
class AllocationContext:
    """Allocation context of one network and target. L is the number of layers.

    Attributes:
        layers: The layer table, in forward order.
        budget: Zeros the whole network must have.
        lower: (L,) least zeros of each layer.
        upper: (L,) most zeros of each layer.
        magnitudes: Reads the absolute weights of the L layers, flattened.
        curves: Measures the error curves; needs calibration images, so only protocols that use
            them call it.
        wanda_scores: Measures |w| times the norm of its input, of the weights of the L layers,
            flattened; needs calibration images, too.
        choices: L ascending arrays of the counts that a layer's pattern allows, if there
            are few, as in N:M; None: any count.
        own: Measures the layers' own divergences: (J,) densities and (L, J) divergences; None if
            what the outputs mean is not known.
        score_power: See `as_scored`.
        restated: Where `layers` are restated in units of cost: what else there is to know.
    """

    layers: tuple[LayerRow, ...]
    budget: int
    lower: IntArray
    upper: IntArray
    magnitudes: Callable[[], Sequence[FloatArray]]
    curves: Callable[[], Curves]
    wanda_scores: Callable[[], Sequence[FloatArray]] = _no_inputs
    choices: tuple[IntArray, ...] | None = None
    own: Callable[[], Curves | None] = lambda: None
    score_power: float = 1.0
    restated: Restatement | None = None

    @property
    def weights(self) -> IntArray:
        """(L,) number of weights of each layer."""
        return np.array([row.weights for row in self.layers], dtype=np.int64)


def allocation_context(
    model: nn.Module,
    layers: tuple[LayerRow, ...],
    config: WeightSparseConfig,
    *,
    curves: Callable[[], Curves],
    wanda_scores: Callable[[], Sequence[FloatArray]] = _no_inputs,
    own: Callable[[], Curves | None] = lambda: None,
    aimed: bool = True,
) -> AllocationContext:
    """Build the context of a network from the learner's settings.

    Args:
        model: The dense network.
        layers: The layer table.
        config: The learner's settings.
        curves: See `AllocationContext`, like `wanda_scores` and `own`.
        wanda_scores: Likewise.
        own: Likewise.
        aimed: Check that the bounds allow the target; False: the target is not used.

    Raises:
        UserError: The bounds do not allow the target.
    """
    bounds = layer_bounds if aimed else bounds_alone
    lower, upper = bounds(layers, config, limiting_plan(model, layers, config))
    return AllocationContext(
        layers=layers,
        budget=round(config.ws_prune_ratio * sum(row.weights for row in layers)),
        lower=lower,
        upper=upper,
        magnitudes=lambda: magnitudes_of(model, layers),
        curves=curves,
        wanda_scores=wanda_scores,
        own=own,
        score_power=config.ws_score_power,
        choices=_choices(model, layers, config, lower=lower, upper=upper),
    )


def refuse_bounds(
    model: nn.Module, layers: tuple[LayerRow, ...], config: WeightSparseConfig
) -> None:
    """Refuse bounds that do not allow the target, before anything is measured.

    Raises:
        UserError: They do not.
    """
    layer_bounds(layers, config, limiting_plan(model, layers, config))


def _choices(
    model: nn.Module,
    layers: Sequence[LayerRow],
    config: WeightSparseConfig,
    *,
    lower: IntArray,
    upper: IntArray,
) -> tuple[IntArray, ...] | None:
    """Counts of zeros for N = M, M - 1, ..., 1 of each layer, within its bounds."""
    pattern = parse_pattern(config.pattern_spelling)
    names = [row.name for row, most in zip(layers, upper, strict=True) if most and not row.exempt]
    if not isinstance(pattern, PerLayerNM | ByRole):
        return None
    plan = build_pattern_plan(model, names, pattern=pattern)
    if any(counts_of(own, plan.shapes[name]) is None for name, own in plan.patterns.items()):
        return None
    found = []
    for row, least, most in zip(layers, lower, upper, strict=True):
        own = plan.patterns.get(row.name)
        counts = counts_of(own, row.shape) or (0,)
        if least == most and own is not None:  # held
            counts = (own.feasible(row.shape, int(most)),)
        else:
            counts = tuple(count for count in counts if least <= count <= most)
        found.append(np.array(sorted(set(counts)), dtype=np.int64))
    return tuple(found)


def magnitudes_of(model: nn.Module, layers: Sequence[LayerRow]) -> LayerMagnitudes:
    """Absolute weights of each layer, flattened."""
    return LayerMagnitudes(model, layers)


class LayerMagnitudes(Sequence[FloatArray]):
    """Absolute weights of each layer, flattened; none is kept.

    Attributes:
        dtype: float32 if it holds all weights exactly, else float64.
    """

    def __init__(self, model: nn.Module, layers: Sequence[LayerRow]) -> None:
        self._weights = [parameter_of(model, row.name).detach() for row in layers]
        narrow = all(w.dtype in _NARROW for w in self._weights)
        self.dtype: type[np.float32] | type[np.float64] = np.float32 if narrow else np.float64

    def __len__(self) -> int:
        return len(self._weights)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._weights[index].abs().double().flatten().cpu().numpy()

    def compact(self, layer: int) -> NDArray[Any]:
        """A layer's magnitudes as `dtype`; the caller's own copy."""
        weight = self._weights[layer]
        found = torch.empty(weight.numel(), dtype=_OF_NUMPY[self.dtype])
        torch.abs(found.copy_(weight.reshape(-1)), out=found)
        values: NDArray[Any] = found.numpy()
        return values

    def parts(self, layer: int) -> Iterator[NDArray[Any]]:
        """A layer's magnitudes as `dtype`, in parts that fit into the cache."""
        for part in torch.split(self._weights[layer].reshape(-1), _PART):
            yield part.abs().to("cpu", _OF_NUMPY[self.dtype]).numpy()
