"""Observation features: a vector of fixed size for any network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.action_map import ToRatio
from envs.curves import error_at
from envs.own_curves import OwnCurves
from envs.problem import AllocationProblem, FloatArray, IntArray, LayerRow

__all__ = ["CURVE_POINTS", "FEATURES", "ObservationBuilder"]

OWN_POINTS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
"""Densities at which the observation shows a layer's own divergence."""

CURVE_POINTS = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
"""Prune ratios at which the observation shows a layer's error."""

FEATURES = (
    *("position", "linear", "kernel", "inputs", "outputs", "size", "weights", "macs", "reuse"),
    *("prior", "prior_density", "error_at_prior", *(f"error_at_{p:g}" for p in CURVE_POINTS)),
    *(*(f"own_at_{d:g}" for d in OWN_POINTS), "goal"),
    *("target", "previous_action", "kept_before", "to_come", "needed", "shift"),
    *("least", "most", "least_action", "most_action"),
)
"""Names of the observation's entries, in order."""

_DECADES = 4.0  # errors below 1e-4 of the output's energy all look alike
_DENSITY_DECADES = 3.0


class ObservationBuilder:
    """Builds the observation of an episode's state: a float32 vector with entries in [-1, 1].

    Sizes are logarithms and shares, never one-hot, so that an agent trained on one
    network can be used on another. "Rest" is this layer and all after it.

    | entry | meaning | range | also in |
    |---|---|---|---|
    | position | index / (L - 1) | [0, 1] | AMC |
    | linear | 1 for a linear layer, 0 for a convolution | {0, 1} | AMC |
    | kernel | log2(kernel elements) / log2(49) | [0, 1] | AMC, PocketFlow |
    | inputs | log2(input channels per group) / 12 | [0, 1] | AMC, PocketFlow |
    | outputs | log2(output channels) / 12 | [0, 1] | AMC, PocketFlow |
    | size | weights / largest layer's | [0, 1] | AMC, PocketFlow |
    | weights | share of all weights | [0, 1] | |
    | macs | share of all multiply-accumulates | [0, 1] | AMC |
    | reuse | log2(MACs per weight) / 16 | [0, 1] | AMC (height, width) |
    | prior | prior ratio | [0, 1] | |
    | prior_density | 1 + log10(1 - prior) / 3 | [0, 1] | |
    | error_at_prior | 1 + log10(relative error at the prior ratio) / 4 | [0, 1] | |
    | error_at_R | the same at ratio R, interpolated; one for each of `CURVE_POINTS` | [0, 1] | |
    | own_at_D | (4 + log10(own divergence at density D)) / 5; 0 if unknown | [0, 1] | |
    | goal | 1 + log10(1 - target) / 3 | [0, 1] | |
    | target | overall prune ratio wanted | [0, 1] | |
    | previous_action | executed action of the layer decided last, 0 at first | [-1, 1] | AMC |
    | kept_before | weights kept so far / all weights | [0, 1] | AMC, PocketFlow |
    | to_come | weights after this layer / all weights | [0, 1] | AMC, PocketFlow |
    | needed | budget left / weights of the rest | [0, 1] | |
    | shift | log(density the budget leaves the rest / its prior density), clipped | [-1, 1] | |
    | least, most | feasible ratios of this layer | [0, 1] | |
    | least_action, most_action | the same as actions | [-1, 1] | |

    Sources: AMC, He et al., ECCV 2018, section 3.2; PocketFlow, weight-sparsification learner.
    """

    def __init__(self, problem: AllocationProblem, action_map: ToRatio) -> None:
        self._problem, self._map = problem, action_map
        self._weights = problem.weights
        self._total = int(self._weights.sum())
        self._static = _static(problem)  # (L, S)
        # Weights of layer i and all after it, and how many of them the prior keeps.
        self._rest = np.cumsum(self._weights[::-1])[::-1]
        self._rest_kept = np.cumsum((self._weights - problem.prior)[::-1])[::-1]

    def __call__(
        self, index: int, zeros: IntArray, *, interval: tuple[int, int], previous: float
    ) -> NDArray[np.float32]:
        """Build the observation before layer `index` is decided.

        Args:
            index: The layer to decide, in [0, L).
            zeros: (L,) zero counts; only the entries before `index` are read.
            interval: Least and most zeros feasible for this layer.
            previous: Executed action of the layer decided last, in [-1, 1].

        Returns:
            (len(FEATURES),) vector.
        """
        spent = int(zeros[:index].sum())
        left = float(np.clip(self._problem.budget - spent, 0, self._rest[index]))
        rest = float(self._rest[index])
        before = self._total - rest
        # Half a weight keeps the logarithm finite if nothing is kept.
        shift = np.log((rest - left + 0.5) / (self._rest_kept[index] + 0.5))
        ratios = np.array(interval, np.float64) / self._weights[index]
        dynamic = np.array(
            [
                self._problem.target,
                previous,
                (before - spent) / self._total,
                (rest - self._weights[index]) / self._total,
                left / rest,
                shift,
                *ratios,
                *(self._map.action(float(ratio), index) for ratio in ratios),
            ]
        )
        whole: FloatArray = np.concatenate([self._static[index], dynamic])
        return np.clip(whole, -1.0, 1.0).astype(np.float32)


def _static(problem: AllocationProblem) -> FloatArray:
    """Return the features that do not change during an episode, (L, S)."""
    weights = problem.weights.astype(np.float64)
    macs = np.array([row.macs for row in problem.layers], np.float64)
    prior = problem.prior / weights
    own, goal = _own(problem), 1 + np.log10(max(1 - problem.target, 1e-9)) / _DENSITY_DECADES
    rows = [
        [
            i / max(len(problem.layers) - 1, 1),
            *_shape_features(row),
            weights[i] / weights.max(),
            weights[i] / weights.sum(),
            macs[i] / max(macs.sum(), 1.0),
            np.log2(max(macs[i] / weights[i], 1.0)) / 16,
            prior[i],
            1 + np.log10(max(1 - prior[i], 1e-9)) / _DENSITY_DECADES,
            *_log_errors(problem, i, (prior[i], *CURVE_POINTS)),
            *own[i],
            goal,
        ]
        for i, row in enumerate(problem.layers)
    ]
    return np.clip(np.array(rows, np.float64), 0, 1)


def _own(problem: AllocationProblem) -> FloatArray:
    """Own divergences as features, (L, 7)."""
    shown = np.zeros((len(problem.layers), len(OWN_POINTS)))
    if problem.own is None or problem.own_densities is None:
        return shown
    curves = OwnCurves(problem.own_densities, problem.own, problem.weights)
    for place, density in enumerate(OWN_POINTS):
        values, _ = curves(np.full((1, len(problem.layers)), np.log(density)))
        shown[:, place] = (_DECADES + np.log10(values[0])) / (_DECADES + 1)
    return shown


def _shape_features(row: LayerRow) -> tuple[float, float, float, float]:
    outputs, inputs = row.fan or (row.shape[0], row.shape[1] if len(row.shape) > 1 else 1)
    kernel = row.weights // (outputs * inputs)
    linear = 0.0 if row.kind.startswith("conv") else 1.0
    return linear, np.log2(kernel) / np.log2(49), np.log2(inputs) / 12, np.log2(outputs) / 12


def _log_errors(problem: AllocationProblem, layer: int, ratios: tuple[float, ...]) -> FloatArray:
    weights = problem.layers[layer].weights
    errors = error_at(
        np.array(ratios) * weights,
        weights=weights,
        ratios=problem.curve_ratios,
        errors=problem.curves[layer],
    )
    floored: FloatArray = np.maximum(errors, 10.0**-_DECADES)
    return 1 + np.log10(floored) / _DECADES
