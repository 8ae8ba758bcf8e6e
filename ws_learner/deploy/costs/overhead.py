"""What a network takes beyond the sum of its layers: measured, and fitted to whole networks."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ws_learner.core import Inputs, LayerChoice, NumberFormat, forward_digest, say
from ws_learner.deploy.costs.cache import TimesFile
from ws_learner.deploy.costs.formats import layer_of
from ws_learner.deploy.costs.latency import measure_latency
from ws_learner.deploy.costs.machine import digest_of
from ws_learner.deploy.costs.random_zeros import layer_pattern, random_weight
from ws_learner.deploy.costs.table import CostTable
from ws_learner.deploy.onnx.export import values_of

__all__ = ["fitted"]

_SPARSE_DENSITY = 0.2
_SCALES = (0.7, 1.4)


def fitted(
    table: CostTable,
    model: nn.Module,
    inputs: Inputs,
    *,
    choices: Sequence[Sequence[LayerChoice]],
    file: TimesFile,
    calibration: Iterable[Any] | None,
) -> CostTable:
    """The table with its overhead and scales, so that it predicts whole networks that were measured.

    The dense network is measured and, for `wsr`, one in which each layer has the choice nearest
    to 80 % zeros, in each format. Layers by themselves find their weights in the cache and stand
    alone; within a network neighbours may become one call. Two networks tell the overhead from
    the scale: time = overhead + scale x sum of the layers.

    Args:
        table: Without them.
        model: The network.
        inputs: Of it.
        choices: Of each layer.
        file: Where measurements are kept.
        calibration: See `measure_costs`.
    """
    points = _points(table, choices)
    measured: dict[str, tuple[float, float]] = {}
    for name, point in points.items():
        key = _key(table, model, inputs, name, point)
        if key not in file.entries:
            say(f"costs: measuring the whole network, {name}")
            file.keep(key, _measure(table, model, inputs, point, calibration=calibration))
        alone = sum(table.cost(i, choice) for i, choice in enumerate(point))
        measured[name] = alone, float(file.entries[key])
    return _solved(table, measured)


def _solved(table: CostTable, measured: dict[str, tuple[float, float]]) -> CostTable:
    """Overhead and scales from (sum of layers, whole network) of each point."""
    sum_dense, dense = measured["dense"]
    alone, whole = measured.get("fp32", (0.0, 0.0))
    scale = 1.0
    if "fp32" in measured and whole < dense and alone < sum_dense:
        scale = _within((dense - whole) / (sum_dense - alone))
    # Of the dense network if there is no other, else of the sparse one, which is what counts.
    near = (alone, whole) if "fp32" in measured and whole < dense else (sum_dense, dense)
    overhead = near[1] - scale * near[0]
    if overhead < 0:
        scale, overhead = near[1] / near[0], 0.0
    scales = {"fp32": scale, "int8": scale}
    if "int8" in measured:
        alone, whole = measured["int8"]
        if whole < dense or table.engine != "wsr":
            scales["int8"] = _within((whole - overhead) / alone)
    return replace(table, overhead=overhead, scale=scales, dense_ms=dense)


def _within(scale: float) -> float:
    return min(max(scale, _SCALES[0]), _SCALES[1])


def _points(
    table: CostTable, choices: Sequence[Sequence[LayerChoice]]
) -> dict[str, list[LayerChoice]]:
    """Networks to measure: one choice for each layer."""
    dense = [LayerChoice(pattern="unstructured", zeros=0) for _ in table.layers]
    points = {"dense": dense}
    if table.engine != "wsr":
        return points
    for dtype in _formats(choices):
        points[dtype] = [
            _nearest(own, row.weights, dtype)
            for row, own in zip(table.layers, choices, strict=True)
        ]
    return {name: own for name, own in points.items() if name == "dense" or own != dense}


def _formats(choices: Sequence[Sequence[LayerChoice]]) -> list[NumberFormat]:
    used = {choice.dtype for own in choices for choice in own}
    return [kind for kind in ("fp32", "int8") if kind in used]  # type: ignore[misc]


def _nearest(own: Sequence[LayerChoice], weights: int, dtype: NumberFormat) -> LayerChoice:
    """The choice of a format whose density is nearest to the one that is measured."""
    fitting = [choice for choice in own if choice.dtype == dtype] or list(own)
    if not fitting:
        return LayerChoice(pattern="unstructured", zeros=0, dtype=dtype)
    return min(fitting, key=lambda c: abs(1 - c.zeros / weights - _SPARSE_DENSITY))


def _measure(
    table: CostTable,
    model: nn.Module,
    inputs: Inputs,
    point: Sequence[LayerChoice],
    *,
    calibration: Iterable[Any] | None,
) -> float:
    twin = copy.deepcopy(model)
    formats: dict[str, NumberFormat] = {}
    with torch.no_grad():
        for row, choice in zip(table.layers, point, strict=True):
            weight = twin.get_parameter(row.name)
            if choice.zeros and row.calls:
                pattern = layer_pattern(choice.pattern)
                weight.copy_(random_weight(tuple(weight.shape), pattern, choice.zeros))
            formats[layer_of(row.name)] = choice.dtype
    uniform = set(formats.values())
    return measure_latency(
        twin,
        inputs,
        engine=table.engine,
        dtype=uniform.pop() if len(uniform) == 1 else formats,
        threads=table.threads,
        calibration=calibration,
    ).median_ms


def _key(
    table: CostTable, model: nn.Module, inputs: Inputs, name: str, point: Sequence[LayerChoice]
) -> str:
    shapes = [list(x.shape) for x in values_of(inputs)]
    layers = [[row.name, row.weights, dict(row.calls)] for row in table.layers]
    chosen = [[c.pattern, c.zeros, c.dtype] for c in point]
    facts = {"layers": layers, "inputs": shapes, "model": forward_digest(model), "at": chosen}
    return f"network {name} {digest_of(facts)[:16]}"
