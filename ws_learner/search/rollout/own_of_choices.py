"""Own divergences of choices, from their errors and a few measurements.

Measuring every choice would take a hundred passes for each layer. In one layer the own divergence
grows with the error of the layer's outputs, so it is read off the measured curve of the layer
database's pattern. At equal error other patterns hurt more, by 1.4 times in the median over the
layers of ResNet-20 and up to 13 times in a single one, alike at all densities. So each pattern is
measured at `ANCHORS` in each layer, and the factor found there is applied to its other choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from envs import FloatArray
from ws_learner.core import LayerChoice
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.own_divergence import cached_divergences, measure_alone

__all__ = ["ANCHORS", "own_curve", "own_of_choices"]

ANCHORS = (0.4, 0.1)
"""Densities at which the own divergence of a pattern is measured, or the nearest choice's."""

_TINY = 1e-12

Points = Sequence[Sequence[int]]


def own_of_choices(
    rollouts: RolloutEvaluator,
    *,
    choices: Sequence[Sequence[LayerChoice]],
    errors: Sequence[FloatArray],
    curve_errors: Callable[[int], FloatArray],
    weight: Callable[[int, LayerChoice], Tensor],
    known: Callable[[int, str], bool],
    about: str,
) -> tuple[FloatArray, ...] | None:
    """Own divergence of each choice of each layer; None if what the outputs mean is not known.

    Args:
        rollouts: The evaluator; its own divergences are the curves.
        choices: L tuples; the first choice is the dense layer.
        errors: Relative error of each.
        curve_errors: (J,) relative errors of a layer at `OWN_DENSITIES`, where its curve is known.
        weight: The weight that a choice puts in a layer.
        known: Whether a layer's curve is of this pattern.
        about: Identity of the choices.
    """
    measured = rollouts.own_divergences()
    if measured is None:
        return None
    anchors = [_anchors(rollouts, i, own, known) for i, own in enumerate(choices)]
    found = _measured(rollouts, choices, anchors, weight, about=about)
    result = []
    for layer in range(len(rollouts.layers)):
        curve, alone = curve_errors(layer), measured[1][layer]
        own = own_curve(errors[layer], curve_errors=curve, own=alone)
        for pattern in dict.fromkeys(choice.pattern for choice in choices[layer]):
            here = [i for i, choice in enumerate(choices[layer]) if choice.pattern == pattern]
            at = [p for p, i in enumerate(anchors[layer]) if choices[layer][i].pattern == pattern]
            if at:
                places = [anchors[layer][p] for p in at]
                factors = np.maximum(found[layer, at], _TINY) / np.maximum(own[places], _TINY)
                own[here] *= _factors(errors[layer][here], errors[layer][places], factors)
        own[0] = 0.0
        result.append(own)
    return tuple(result)


def own_curve(errors: FloatArray, *, curve_errors: FloatArray, own: FloatArray) -> FloatArray:
    """Divergence at each error, by interpolation between logarithms.

    Below the smallest measured error both are proportional: the divergence is quadratic in small
    changes of the outputs.

    Args:
        errors: (C,) relative errors.
        curve_errors: (J,) those of the measurements, in any order.
        own: (J,) divergences measured; made to rise with the error.
    """
    order = np.argsort(curve_errors)
    at = np.maximum(curve_errors[order], _TINY)
    values = np.maximum(np.maximum.accumulate(own[order]), _TINY)
    found: FloatArray = np.exp(np.interp(_log(errors), np.log(at), np.log(values)))
    return np.where(errors < at[0], values[0] * errors / at[0], found)


def _factors(errors: FloatArray, anchors: FloatArray, factors: FloatArray) -> FloatArray:
    """Factors at errors: between the anchors by logarithms, 1 where nothing of a layer is left."""
    order = np.argsort(anchors)
    at, values = [*_log(anchors[order])], [*np.log(factors[order])]
    if at[-1] < 0:
        at, values = [*at, 0.0], [*values, 0.0]
    found: FloatArray = np.exp(np.interp(_log(errors), at, values))
    return found


def _log(values: FloatArray) -> FloatArray:
    found: FloatArray = np.log(np.maximum(values, _TINY))
    return found


def _anchors(
    rollouts: RolloutEvaluator,
    layer: int,
    choices: Sequence[LayerChoice],
    known: Callable[[int, str], bool],
) -> list[int]:
    """Indices of the choices of a layer that are measured."""
    size, found = rollouts.layers[layer].weights, []
    for pattern in dict.fromkeys(choice.pattern for choice in choices):
        own = [i for i, c in enumerate(choices) if c.pattern == pattern and c.zeros]
        own = [i for i in own if choices[i].dtype == choices[own[0]].dtype]
        if not own or known(layer, pattern):
            continue
        for density in ANCHORS:
            kept = (1 - density) * size
            found.append(min(own, key=lambda i: abs(choices[i].zeros - kept)))
    return list(dict.fromkeys(found))


def _measured(
    rollouts: RolloutEvaluator,
    choices: Sequence[Sequence[LayerChoice]],
    anchors: Points,
    weight: Callable[[int, LayerChoice], Tensor],
    *,
    about: str,
) -> FloatArray:
    """(L, most anchors of a layer) divergences of the anchors; cached."""
    most = max(map(len, anchors), default=0)
    if not most:
        return np.zeros((len(anchors), 0))
    examples = rollouts.config.nb_smpls_own

    def measure() -> FloatArray:
        found = measure_alone(
            rollouts.dense,
            rollouts.exam,
            layers=rollouts.layers,
            weights=lambda layer: (weight(layer, choices[layer][i]) for i in anchors[layer]),
            examples=examples,
        )
        return np.array([own + [0.0] * (most - len(own)) for own in found])

    return cached_divergences(
        measure,
        shape=(len(anchors), most),
        about=["choices", about, rollouts.config.rg_solver, ANCHORS, rollouts.exam.outputs],
        exam=rollouts.exam,
        examples=examples,
        cache_dir=rollouts.cache_dir,
    )
